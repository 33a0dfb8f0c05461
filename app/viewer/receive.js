// What the server sends: an image, or an image with a result. Comes last, since it starts the viewer.

async function receive() {
  const text = props.value;
  const next = text ? JSON.parse(text) : { image: null, result: null, board: "" };
  const sameImage = data.image && next.image && data.image.src === next.image.src;
  data = next;
  maps = {};
  headMeans = null;
  pending = null;
  trouble = "";
  const has = Boolean(data.result);
  element.querySelectorAll(".legend, .map-tools, .side .panel").forEach((node) => (node.hidden = !has));
  element.querySelector(".guide").hidden = has;
  root.dataset.state = has ? "result" : data.image ? "image" : "empty";
  if (!sameImage) view = { zoom: 1, x: 0, y: 0 };
  if (has) {
    maps = { critical: halves(data.result.maps.critical), mean: halves(data.result.maps.mean) };
    if (data.result.head_means) headMeans = halves(data.result.head_means);
    part("answer").textContent = data.result.answer || "(empty answer)";
    part("speaker").textContent = data.result.speaker;
    const sinks = data.result.sinks.length;
    element.querySelector("[data-control=sinks]").disabled = sinks === 0;
    part("sinks").textContent = sinks ? "Suppress " + sinks + (sinks === 1 ? " sink" : " sinks") : "No sinks found";
    buildWords();
    buildHeads();
    const answer = roleRows("answer");
    chosen = { heads: "critical", layer: data.result.critical[0][0], head: data.result.critical[0][1], words: "", rows: [] };
    part("oneHead").textContent = "One head";
    chooseHeads("critical", chosen.layer, chosen.head);
    chooseWords(answer.length ? "answer" : "question", answer.length ? answer : roleRows("question"));
  }
  receiveRegions();
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

watch("value", receive);
receive();
