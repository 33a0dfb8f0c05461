// The viewer: one canvas, the words, the heads. Everything but single heads' maps is already here, so
// changing word, head set or look asks the server for nothing.

const part = (name) => element.querySelector("[data-part=" + name + "]");
const root = element.querySelector(".viewer");
const stage = element.querySelector(".stage");
const canvas = element.querySelector("canvas.picture");
const lookUp = JSON.parse(props.colour_maps);
const luts = Object.fromEntries(Object.entries(lookUp).map(([name, text]) => [name, bytesOf(text)]));

let data = { image: null, result: null };
let picture = null; // decoded image
let maps = {}; // "critical", "mean", "layer.head" -> Float32Array [rows, patches]
let headMeans = null; // Float32Array [layers * heads, patches], mean over the answer
let chosen = { heads: "critical", layer: 0, head: 0, words: "answer", rows: [] };
let view = { zoom: 1, x: 0, y: 0 }; // pan in image widths
let pending = null; // key of the map that is being fetched
let trouble = ""; // why a map could not be fetched
const look = { opacity: 0.85, threshold: 0, colours: "inferno", scale: "own", smooth: true, sinks: false, grid: false };

for (const name of Object.keys(luts)) {
  const option = document.createElement("option");
  option.value = option.textContent = name;
  element.querySelector("[data-control=colours]").append(option);
}

// ---- what is on show -------------------------------------------------------------------------

const roleRows = (role) => data.result.tokens.filter((token) => token.role === role && token.row !== null && !token.special).map((token) => token.row);
const mapKey = () => (chosen.heads === "head" ? chosen.layer + "." + chosen.head : chosen.heads);

// The map on show as {values, map}, or null while it is on its way.
function current() {
  const result = data.result;
  if (!result || !chosen.rows.length) return null;
  const map = maps[mapKey()];
  let values;
  if (map) values = meanOfRows(map, chosen.rows, result.patches);
  else if (chosen.heads === "head" && headMeans && chosen.words === "answer") {
    const start = (chosen.layer * result.heads + chosen.head) * result.patches;
    values = headMeans.slice(start, start + result.patches);
  } else return null;
  const share = total(values);
  if (look.sinks) for (const patch of result.sinks) values[patch] = 0;
  return { values, map, share };
}

function topOfScale(shown) {
  if (look.scale === "own" || !shown.map) return largest(shown.values);
  const skip = new Set(look.sinks ? data.result.sinks : []);
  const patches = data.result.patches;
  let most = 0;
  for (const token of data.result.tokens) {
    if (token.row === null || token.special || token.role === "template") continue;
    for (let j = 0; j < patches; j++) if (!skip.has(j)) most = Math.max(most, shown.map[token.row * patches + j]);
  }
  return most;
}

async function fetchHead() {
  const key = mapKey();
  if (chosen.heads !== "head" || maps[key] || pending === key) return;
  pending = key;
  const id = data.result.id;
  try {
    const reply = await server.head_map({ result: id, layer: chosen.layer, head: chosen.head });
    if (!data.result || data.result.id !== id) return;
    if (reply.error) trouble = reply.error;
    else maps[key] = halves(reply.map);
  } catch (error) {
    trouble = "The server did not send this head's map. Ask again.";
  } finally {
    if (pending === key) pending = null;
  }
  draw();
}

// ---- drawing -----------------------------------------------------------------------------------

function placement() {
  const ratio = window.devicePixelRatio || 1;
  const box = stage.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  const image = data.image;
  const scale = Math.min(canvas.width / image.width, canvas.height / image.height) * view.zoom;
  return {
    scale,
    x: (canvas.width - image.width * scale) / 2 + view.x * canvas.width,
    y: (canvas.height - image.height * scale) / 2 + view.y * canvas.height,
    ratio,
  };
}

let queued = false;
function draw() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    drawNow();
  });
}

function drawNow() {
  if (!data.image || !picture) return;
  const place = placement();
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, place.x, place.y, data.image.width * place.scale, data.image.height * place.scale);
  const shown = current();
  if (shown) {
    const top = topOfScale(shown);
    const lut = luts[look.colours];
    drawHeat(context, shown.values, data.result.tiles, data.image, place, { ...look, lut, top });
    part("legendHigh").textContent = percent(top);
    const ramp = element.querySelector("canvas.ramp").getContext("2d");
    const strip = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) strip.data.set([lut[3 * i], lut[3 * i + 1], lut[3 * i + 2], 255], 4 * i);
    ramp.putImageData(strip, 0, 0);
  } else if (data.result) {
    part("legendHigh").textContent = "";
    fetchHead();
  }
  part("zoom").textContent = view.zoom === 1 ? "" : Math.round(100 * view.zoom) + " %";
  caption(shown);
  stage.dataset.shown = data.result ? [mapKey(), chosen.rows.join("+"), shown ? "ready" : "waiting"].join(" ") : "image";
}

function caption(shown) {
  const result = data.result;
  if (!result) {
    part("caption").textContent = "";
    return;
  }
  const heads = {
    critical: result.critical.length + " critical heads",
    mean: "mean of all " + result.layers * result.heads + " heads",
    head: "layer " + chosen.layer + ", head " + chosen.head,
  }[chosen.heads];
  const words = result.tokens.filter((token) => chosen.rows.includes(token.row)).map((token) => "“" + token.text.trim() + "”");
  const which = { answer: "mean of the answer", question: "mean of the question" }[chosen.words] || words.join(" + ");
  const lines = [result.model, "adapter: " + result.adapter, heads, which, look.sinks ? "attention, sinks suppressed" : "raw attention"];
  if (shown) lines.push(percent(shown.share) + " of it on the image");
  part("caption").textContent = trouble || (shown ? "" : "Loading · ") + lines.join(" · ");
}

// ---- words -------------------------------------------------------------------------------------

function buildWords() {
  const holder = part("words");
  holder.replaceChildren();
  const result = data.result;
  const critical = maps.critical;
  const shares = result.tokens.map((token) => (token.row === null ? null : total(critical.subarray(token.row * result.patches, (token.row + 1) * result.patches))));
  let line = null;
  result.tokens.forEach((token, place) => {
    const group = token.role === "answer" ? "answer" : "question";
    if (!line || line.dataset.group !== group) {
      line = document.createElement("p");
      line.dataset.group = group;
      holder.append(line);
    }
    const word = document.createElement("button");
    word.type = "button";
    word.className = "word" + (token.special || token.role === "template" ? " template" : "");
    word.textContent = token.text.trim() || (token.text.includes("\n") ? "↵" : "␣");
    word.dataset.role = token.role;
    if (token.text.startsWith(" ")) word.classList.add("spaced");
    if (token.row === null) {
      word.disabled = true;
      word.title = "Stands before the image and cannot see it";
    } else {
      word.dataset.row = token.row;
      word.style.setProperty("--share", Math.min(1, shares[place]).toFixed(3));
      word.title = percent(shares[place]) + " of this word's attention in the critical heads goes to the image";
      word.setAttribute("aria-pressed", "false");
    }
    line.append(word);
  });
}

function chooseWords(words, rows) {
  chosen.words = words;
  chosen.rows = rows;
  element.querySelectorAll(".word[data-row]").forEach((word) => word.setAttribute("aria-pressed", String(rows.includes(Number(word.dataset.row)))));
  element.querySelectorAll("[data-words]").forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.words === words)));
  draw();
}

part("words").addEventListener("click", (event) => {
  const word = event.target.closest(".word[data-row]");
  if (!word) return;
  const row = Number(word.dataset.row);
  const more = event.shiftKey || event.ctrlKey || event.metaKey;
  const before = more && chosen.words === "own" ? chosen.rows : [];
  const rows = before.includes(row) && before.length > 1 ? before.filter((other) => other !== row) : [...new Set([...before, row])];
  chooseWords("own", rows);
});

element.querySelectorAll("[data-words]").forEach((chip) =>
  chip.addEventListener("click", () => chooseWords(chip.dataset.words, roleRows(chip.dataset.words))),
);

// ---- heads -------------------------------------------------------------------------------------

function buildHeads() {
  const holder = part("heads");
  holder.replaceChildren();
  const { layers, heads, ratio, critical } = data.result;
  const marked = new Set(critical.map(([layer, head]) => layer + "." + head));
  const low = Math.min(...ratio);
  const high = Math.max(...ratio);
  part("ratioLow").textContent = percent(low);
  part("ratioHigh").textContent = percent(high);
  part("headsNote").textContent = layers + " layers × " + heads + " heads, numbered from 0";
  holder.style.setProperty("--columns", heads);
  holder.classList.toggle("many", layers * heads > 160);
  for (let layer = 0; layer < layers; layer++) {
    const line = document.createElement("div");
    line.setAttribute("role", "row");
    const name = document.createElement("span");
    name.setAttribute("role", "rowheader");
    name.textContent = "L" + layer;
    line.append(name);
    for (let head = 0; head < heads; head++) {
      const value = ratio[layer * heads + head];
      const cell = document.createElement("button");
      cell.type = "button";
      cell.setAttribute("role", "gridcell");
      cell.className = "cell";
      cell.dataset.layer = layer;
      cell.dataset.head = head;
      cell.tabIndex = layer + head === 0 ? 0 : -1;
      cell.style.setProperty("--level", (high > low ? (value - low) / (high - low) : 0.5).toFixed(3));
      const isCritical = marked.has(layer + "." + head);
      cell.classList.toggle("critical", isCritical);
      const words = "Layer " + layer + ", head " + head + ": " + percent(value) + " of its attention on the image" + (isCritical ? " (critical)" : "");
      cell.title = words;
      cell.setAttribute("aria-label", words);
      line.append(cell);
    }
    holder.append(line);
  }
}

function chooseHeads(heads, layer, head) {
  chosen.heads = heads;
  trouble = "";
  if (heads === "head") {
    chosen.layer = layer;
    chosen.head = head;
    part("oneHead").textContent = "Layer " + layer + ", head " + head;
    fetchHead();
  }
  element.querySelectorAll("[data-heads]").forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.heads === heads)));
  element.querySelectorAll(".cell").forEach((cell) => {
    const here = heads === "head" && Number(cell.dataset.layer) === layer && Number(cell.dataset.head) === head;
    cell.setAttribute("aria-selected", String(here));
    if (heads === "head") cell.tabIndex = here ? 0 : -1;
  });
  draw();
}

function step(layers, heads) {
  const result = data.result;
  if (!result) return;
  const fresh = chosen.heads !== "head";
  const layer = Math.max(0, Math.min(result.layers - 1, chosen.layer + (fresh ? 0 : layers)));
  const head = Math.max(0, Math.min(result.heads - 1, chosen.head + (fresh ? 0 : heads)));
  chooseHeads("head", layer, head);
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

part("heads").addEventListener("click", (event) => {
  const cell = event.target.closest(".cell");
  if (cell) chooseHeads("head", Number(cell.dataset.layer), Number(cell.dataset.head));
});
part("heads").addEventListener("keydown", (event) => {
  if (!STEPS[event.key]) return;
  event.preventDefault();
  step(...STEPS[event.key]);
  element.querySelector(".cell[aria-selected=true]")?.focus();
});
element.querySelectorAll("[data-heads]").forEach((chip) => chip.addEventListener("click", () => chooseHeads(chip.dataset.heads, chosen.layer, chosen.head)));

// ---- looks -------------------------------------------------------------------------------------

element.querySelectorAll("[data-control]").forEach((control) =>
  control.addEventListener("input", () => {
    const name = control.dataset.control;
    if (control.type === "checkbox") look[name] = control.checked;
    else if (control.type === "range") look[name] = Number(control.value) / 100;
    else look[name] = control.value;
    if (name === "template") part("words").classList.toggle("with-template", control.checked);
    draw();
  }),
);

// ---- zoom, pan, readout ------------------------------------------------------------------------

function zoomBy(factor, clientX, clientY) {
  const box = stage.getBoundingClientRect();
  const zoom = Math.max(1, Math.min(16, view.zoom * factor));
  const u = (clientX - box.left) / box.width - 0.5;
  const v = (clientY - box.top) / box.height - 0.5;
  const change = zoom / view.zoom;
  view = zoom === 1 ? { zoom: 1, x: 0, y: 0 } : { zoom, x: u - (u - view.x) * change, y: v - (v - view.y) * change };
  draw();
}

function resetView() {
  view = { zoom: 1, x: 0, y: 0 };
  draw();
}

stage.addEventListener("wheel", (event) => {
  if (!data.image) return;
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY * 0.0015), event.clientX, event.clientY);
}, { passive: false });
stage.addEventListener("dblclick", resetView);

let drag = null;
stage.addEventListener("pointerdown", (event) => {
  if (!data.image || view.zoom === 1) return;
  drag = { x: event.clientX, y: event.clientY, view: { ...view } };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointerup", () => (drag = null));
stage.addEventListener("pointercancel", () => (drag = null));
stage.addEventListener("pointermove", (event) => {
  if (!data.image || !picture) return;
  const box = stage.getBoundingClientRect();
  if (drag) {
    view.x = drag.view.x + (event.clientX - drag.x) / box.width;
    view.y = drag.view.y + (event.clientY - drag.y) / box.height;
    draw();
    return;
  }
  readout(event.clientX - box.left, event.clientY - box.top, box);
});
stage.addEventListener("pointerleave", () => (part("readout").textContent = ""));

function readout(left, top, box) {
  const image = data.image;
  const scale = Math.min(box.width / image.width, box.height / image.height) * view.zoom;
  const x = (left - (box.width - image.width * scale) / 2 - view.x * box.width) / scale;
  const y = (top - (box.height - image.height * scale) / 2 - view.y * box.height) / scale;
  if (x < 0 || y < 0 || x >= image.width || y >= image.height) {
    part("readout").textContent = "";
    return;
  }
  const shown = current();
  const patch = shown ? patchAt(data.result.tiles, x, y) : -1;
  const where = "x " + Math.floor(x) + ", y " + Math.floor(y);
  part("readout").textContent = patch < 0 ? where : where + " · patch " + patch + ": " + percent(shown.values[patch]);
}

stage.addEventListener("keydown", (event) => {
  if (STEPS[event.key]) step(...STEPS[event.key]);
  else if (event.key === "0") resetView();
  else if (event.key === "+" || event.key === "-") {
    const box = stage.getBoundingClientRect();
    zoomBy(event.key === "+" ? 1.25 : 0.8, box.left + box.width / 2, box.top + box.height / 2);
  } else return;
  event.preventDefault();
});

new ResizeObserver(draw).observe(stage);

// ---- what the server sends -----------------------------------------------------------------------

async function receive() {
  const text = props.value;
  const next = text ? JSON.parse(text) : { image: null, result: null };
  const sameImage = data.image && next.image && data.image.src === next.image.src;
  data = next;
  maps = {};
  headMeans = null;
  pending = null;
  trouble = "";
  const has = Boolean(data.result);
  element.querySelectorAll(".legend, .tools, .side .panel").forEach((node) => (node.hidden = !has));
  element.querySelector(".guide").hidden = has;
  root.dataset.state = has ? "result" : data.image ? "image" : "empty";
  if (!sameImage) view = { zoom: 1, x: 0, y: 0 };
  if (has) {
    maps = { critical: halves(data.result.maps.critical), mean: halves(data.result.maps.mean) };
    if (data.result.head_means) headMeans = halves(data.result.head_means);
    part("answer").textContent = data.result.answer || "(empty answer)";
    part("speaker").textContent = data.result.speaker;
    element.querySelector(".sinks").hidden = data.result.sinks.length === 0;
    buildWords();
    buildHeads();
    const answer = roleRows("answer");
    chosen = { heads: "critical", layer: data.result.critical[0][0], head: data.result.critical[0][1], words: "", rows: [] };
    part("oneHead").textContent = "One head";
    chooseHeads("critical", chosen.layer, chosen.head);
    chooseWords(answer.length ? "answer" : "question", answer.length ? answer : roleRows("question"));
  }
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
