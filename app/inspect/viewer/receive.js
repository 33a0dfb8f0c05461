// What the server sends: an image, or an image with a result. Comes last, since it starts the viewer.

// The views of a result, unpacked, each knowing where it comes from.
function viewsOf(result) {
  const same = data.result && result.question === data.result.question;
  return result.views.map((one) => ({
    ...one,
    result: result.id,
    question: result.question,
    patches: result.patches,
    tiles: result.tiles,
    label: same ? one.adapter : one.adapter + " · “" + result.question + "”",
    maps: { critical: halves(one.maps.critical), mean: halves(one.maps.mean) },
    headMeans: { answer: one.head_means.answer && halves(one.head_means.answer), question: one.head_means.question && halves(one.head_means.question) },
    experts: one.experts && { ...one.experts, first: one.experts.first && bytesOf(one.experts.first) },
    pending: new Set(),
  }));
}

async function receive() {
  const text = props.value || window.openingValue;
  const next = text ? JSON.parse(text) : { image: null, result: null, board: "", history: [] };
  if (next.adopt) {
    adopt(next);
    return;
  }
  const sameImage = Boolean(data.image && next.image && data.image.src === next.image.src);
  const grows = Boolean(data.result && next.result && data.result.id === next.result.id && data.board === next.board);
  const had = { adapters: both().map((one) => one?.adapter), mode: pair.mode, comparable: views.length > 1 };
  data = next;
  hasBegun();
  trouble = "";
  const has = Boolean(data.result);
  element.querySelectorAll(".legend, .map-tools, .side .panel").forEach((node) => (node.hidden = !has));
  element.querySelector(".guide").hidden = has;
  root.dataset.state = has ? "result" : data.image ? "image" : "empty";
  if (!sameImage) {
    view = { zoom: 1, x: 0, y: 0 };
    levels = { centre: 127.5, width: 255 };
  }
  if (!grows) {
    clearFaithfulness();
    focus = { weights: null, label: "", key: "" };
  }
  views = has ? viewsOf(data.result) : [];
  if (has) showResult(grows, had);
  else pair = { ...pair, a: 0, b: -1, mode: "one", front: "a" };
  receiveRegions(grows);
  buildHistory();
  part("imageLabel").textContent = data.image ? data.image.label : "";
  if (!data.image) {
    picture = null;
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    stage.dataset.shown = "";
    return;
  }
  if (!sameImage || !picture) {
    const fresh = new Image();
    fresh.src = data.image.src;
    await fresh.decode();
    if (data !== next) return; // a newer image came meanwhile
    picture = fresh;
  }
  draw();
}

// Only what the server sends for this visit has a board: until then it knows of no image to ask about.
const hasBegun = () => root.toggleAttribute("data-begun", Boolean(data.board));

// The visit begins with what the page brought: what was chosen meanwhile stays.
function adopt({ adopt: result, board, history }) {
  if (data.result?.id !== result) {
    trigger("reopen", { result });
    return;
  }
  data = { ...data, board, history };
  hasBegun();
  receiveRegions(false);
  buildHistory();
}

// The sides stay as they were chosen as long as those adapters answer; at first the base is A, and B comes after it.
function showResult(grows, had) {
  const place = (adapter) => views.findIndex((one) => one.adapter === adapter);
  const [a, b] = [place(had.adapters[0]), place(had.adapters[1])];
  const kept = had.comparable && a >= 0 && (b >= 0 || had.adapters.length < 2);
  pair = { ...pair, a: kept ? a : 0, b: kept ? b : views.length > 1 ? 1 : -1, front: grows && kept ? pair.front : "a" };
  if (pair.b < 0) pair = { ...pair, mode: "one", front: "a" };
  if (!grows) {
    const [layer, head] = sideA().critical[0];
    const words = roleRows(sideA(), "answer").length ? "answer" : "question";
    chosen = { heads: "critical", layer, head, words, rows: [], of: null };
  } else if (chosen.of) chosen = { ...chosen, of: views[place(chosen.of.adapter)] };
  const sinks = Math.max(...views.map((one) => one.sinks.length));
  element.querySelector("[data-control=sinks]").disabled = sinks === 0;
  part("sinks").textContent = sinks ? "Suppress " + sideA().sinks.length + (sideA().sinks.length === 1 ? " sink" : " sinks") : "No sinks found";
  buildChoices();
  buildWords();
  buildComparison();
  sideChanged();
}

watch("value", receive);
receive();
