// The viewer: one canvas, the words, the heads. Everything but single heads' maps is already here, so
// changing word, head set or look asks the server for nothing.

const part = (name) => element.querySelector("[data-part=" + name + "]");
const root = element.querySelector(".viewer");
const stage = element.querySelector(".stage");
const canvas = element.querySelector("canvas.picture");
const lookUp = JSON.parse(props.colour_maps);
const luts = Object.fromEntries(Object.entries(lookUp).map(([name, text]) => [name, bytesOf(text)]));

let data = { image: null, result: null, board: "" };
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
  if (look.sinks) values = fillSinks(values, result.sinks, result.tiles);
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
  drawRegions(context, place);
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
  const lines = [result.model, "adapter: " + result.adapter, heads, which, look.sinks && result.sinks.length ? "attention, " + result.sinks.length + " sink patches filled in" : "raw attention"];
  if (shown) lines.push(percent(shown.share) + " of its attention on the image");
  part("caption").textContent = trouble || (shown ? "" : "Loading · ") + lines.join(" · ");
}

// ---- looks -------------------------------------------------------------------------------------

element.querySelectorAll(".map-tools [data-control], .words-panel [data-control]").forEach((control) =>
  control.addEventListener("input", () => {
    const name = control.dataset.control;
    if (control.type === "checkbox") look[name] = control.checked;
    else if (control.type === "range") look[name] = Number(control.value) / 100;
    else look[name] = control.value;
    if (name === "template") part("words").classList.toggle("with-template", control.checked);
    draw();
  }),
);
