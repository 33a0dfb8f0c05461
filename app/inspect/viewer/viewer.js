// The viewer: one canvas, the words, the heads. Everything but single heads' maps is already here, so
// changing word, head set, adapter or look asks the server for nothing.

const part = (name) => element.querySelector("[data-part=" + name + "]");
const root = element.querySelector(".viewer");
const stage = element.querySelector(".stage");
const canvas = element.querySelector("canvas.picture");
const luts = Object.fromEntries(Object.entries(JSON.parse(props.colour_maps)).map(([name, text]) => [name, bytesOf(text)]));
const DIFFERENCE = "RdBu_r"; // for differences only: it has a middle
// A call ends with an error, or with nothing at all where the server was started anew since.
const NO_ANSWER = { error: "The server did not answer. Try again." };

let data = { image: null, result: null, board: "", history: [] };
let picture = null; // decoded image
let views = []; // all that can be compared: the views of the result on show, then those of results taken along
let pair = { a: 0, b: -1, mode: "one", front: "a", wipe: 0.5 }; // b is -1 where there is nothing to compare with
let chosen = { heads: "critical", layer: 0, head: 0, words: "answer", rows: [], of: null };
let view = { zoom: 1, x: 0, y: 0 }; // pan in widths of a pane
let levels = { centre: 127.5, width: 255 }; // grey values that are shown from black to white
let trouble = ""; // why a map could not be fetched
const look = { opacity: 0.85, threshold: 0, gamma: 1, colours: "inferno", scale: "own", smooth: true, sinks: false, grid: false, map: true };

for (const name of Object.keys(luts)) {
  if (name === DIFFERENCE) continue;
  const option = document.createElement("option");
  option.value = option.textContent = name;
  element.querySelector("[data-control=colours]").append(option);
}

// ---- what is on show -------------------------------------------------------------------------

const sideA = () => views[pair.a];
const sideB = () => (pair.b < 0 ? null : views[pair.b]);
const both = () => (sideB() ? [sideA(), sideB()] : [sideA()]);
const front = () => (pair.front === "b" && sideB() ? sideB() : sideA());
const comparing = () => Boolean(sideB()) && pair.mode !== "one";
const sideName = (one) => (one === sideB() && one !== sideA() ? "B" : "A");

const isWord = (token) => token.row !== null && !token.special && token.role !== "template";
const roleRows = (one, role) => one.tokens.filter((token) => token.role === role && isWord(token)).map((token) => token.row);
const mapKey = () => (chosen.heads === "head" ? chosen.layer + "." + chosen.head : chosen.heads);

// The longest run of equal texts in order: pairs of places in one and other.
function alignment(one, other) {
  const lengths = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--)
    for (let j = other.length - 1; j >= 0; j--)
      lengths[i][j] = one[i] === other[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
  const pairs = [];
  for (let i = 0, j = 0; i < one.length && j < other.length; )
    if (one[i] === other[j]) pairs.push([i++, j++]);
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i++;
    else j++;
  return pairs;
}

// Which row of another view is the same word: the same text in the same order, question and answer by themselves.
function counterparts(one, other) {
  const found = new Map();
  for (const role of ["question", "template", "answer"]) {
    const here = one.tokens.filter((token) => token.row !== null && token.role === role);
    const there = other.tokens.filter((token) => token.row !== null && token.role === role);
    const texts = (tokens) => tokens.map((token) => token.text.trim());
    for (const [i, j] of alignment(texts(here), texts(there))) found.set(here[i].row, there[j].row);
  }
  return found;
}

function rowsOf(one) {
  if (chosen.words !== "own") return roleRows(one, chosen.words);
  if (one === chosen.of || !chosen.of) return chosen.rows;
  const same = counterparts(chosen.of, one);
  return chosen.rows.map((row) => same.get(row)).filter((row) => row !== undefined);
}

// The map of a view as {values, map, share, rows}, or {missing: why} where there is none (yet).
function mapOf(one) {
  const rows = rowsOf(one);
  if (!rows.length) return { missing: chosen.words === "own" ? "has no such word" : "has no " + chosen.words };
  const map = one.maps[mapKey()];
  let values;
  if (map) values = meanOfRows(map, rows, one.patches);
  else if (chosen.heads === "head" && one.headMeans[chosen.words]) values = headMap(one, chosen.layer, chosen.head, chosen.words);
  else {
    fetchHead(one);
    return { missing: trouble || "loading", waits: !trouble };
  }
  const share = total(values);
  if (look.sinks) values = fillSinks(values, one.sinks, one.tiles);
  return { values, map, share, rows };
}

const headMap = (one, layer, head, words) => {
  const start = (layer * one.heads + head) * one.patches;
  return one.headMeans[words].subarray(start, start + one.patches);
};

// One scale for all that is compared, so that equal weights have equal colours on both sides.
function topOfScale() {
  let most = 0;
  for (const one of both()) {
    const shown = mapOf(one);
    if (!shown.values) continue;
    if (look.scale === "own" || !shown.map) most = Math.max(most, largest(shown.values));
    else {
      const skip = new Set(look.sinks ? one.sinks : []);
      for (const token of one.tokens.filter(isWord))
        for (let j = 0; j < one.patches; j++) if (!skip.has(j)) most = Math.max(most, shown.map[token.row * one.patches + j]);
    }
  }
  return most;
}

function difference() {
  const [before, after] = [mapOf(sideA()), mapOf(sideB())];
  if (!before.values || !after.values) return { missing: before.missing || after.missing };
  if (before.values.length !== after.values.length) return { missing: "the two have other patches" };
  return { values: after.values.map((value, patch) => value - before.values[patch]) };
}

async function fetchHead(one) {
  const key = mapKey();
  if (chosen.heads !== "head" || one.maps[key] || one.pending.has(key) || trouble) return;
  one.pending.add(key);
  try {
    const reply = await server.head_map({ result: one.result, adapter: one.adapter, layer: chosen.layer, head: chosen.head });
    if (reply.error) trouble = reply.error;
    else one.maps[key] = halves(reply.map);
  } catch (error) {
    trouble = "The server did not send this head's map. Ask again.";
  } finally {
    one.pending.delete(key);
  }
  draw();
}

// ---- drawing -----------------------------------------------------------------------------------

// The panes in canvas pixels: which side each shows, where it may draw, and where the image lies in it.
function panes() {
  const ratio = window.devicePixelRatio || 1;
  const box = stage.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * ratio));
  const height = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const rect = (x, w) => ({ x, y: 0, width: w, height });
  const pane = (side, frame, clip) => ({ side, clip, place: placement(frame, ratio) });
  const whole = rect(0, width);
  if (!comparing()) return [pane(front(), whole, whole)];
  if (pair.mode === "side") {
    const half = Math.floor(width / 2) - ratio;
    const right = rect(width - half, half);
    return [pane(sideA(), rect(0, half), rect(0, half)), pane(sideB(), right, right)];
  }
  if (pair.mode === "wipe") {
    const edge = Math.round(pair.wipe * width);
    return [pane(sideA(), whole, rect(0, edge)), pane(sideB(), whole, rect(edge, width - edge))];
  }
  return [{ ...pane(sideB(), whole, whole), difference: true }];
}

function placement(frame, ratio) {
  const { width, height } = data.image;
  const scale = Math.min(frame.width / width, frame.height / height) * view.zoom;
  return {
    scale,
    x: frame.x + (frame.width - width * scale) / 2 + view.x * frame.width,
    y: frame.y + (frame.height - height * scale) / 2 + view.y * frame.height,
    ratio,
    frame,
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
  const began = performance.now();
  const all = panes();
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  const top = views.length ? topOfScale() : 0;
  let waits = false;
  let missing = "";
  for (const pane of all) {
    context.save();
    context.beginPath();
    context.rect(pane.clip.x, pane.clip.y, pane.clip.width, pane.clip.height);
    context.clip();
    context.imageSmoothingEnabled = true;
    context.drawImage(toned(), pane.place.x, pane.place.y, data.image.width * pane.place.scale, data.image.height * pane.place.scale);
    if (pane.side && look.map) {
      const shown = pane.difference ? difference() : mapOf(pane.side);
      waits = waits || Boolean(shown.waits);
      missing = shown.missing && !shown.waits ? (comparing() ? sideName(pane.side) + " " : "") + shown.missing : missing;
      const colours = pane.difference ? { lut: luts[DIFFERENCE], signed: true, top: largest(shown.values?.map(Math.abs) || []) } : { lut: luts[look.colours], top };
      if (experts.on && pane.side.experts?.first) drawExperts(context, pane.side, pane.place);
      else if (shown.values) drawHeat(context, shown.values, pane.side.tiles, data.image, pane.place, { ...look, ...colours });
      if (shown.values && !experts.on) legend(colours, pane.difference);
    }
    if (pane.side) drawFocus(context, pane.side, pane.place);
    drawRegions(context, pane.place);
    if (drawing.from && drawing.to) drawBox(context, pane.place);
    context.restore();
  }
  paneLabels(all);
  part("zoom").textContent = [view.zoom === 1 ? "" : Math.round(100 * view.zoom) + " %", levelWords()].filter(Boolean).join(" · ");
  caption(missing);
  const rows = views.length ? rowsOf(front()) : [];
  stage.dataset.shown = data.result ? [mapKey(), rows.join("+"), waits ? "waiting" : "ready"].join(" ") : "image";
  stage.dataset.compare = comparing() ? pair.mode : "one";
  stage.style.setProperty("--tallness", data.image ? data.image.height / data.image.width : 1);
  // One finger scrolls the page where there is nothing to pan: on a tablet the image fills most of it.
  stage.toggleAttribute("data-zoomed", view.zoom > 1);
  stage.dataset.front = views.length ? front().adapter : "";
  stage.dataset.result = data.result ? data.result.id + (data.result.complete ? " complete" : "") : "";
  stage.dataset.tookMs = (performance.now() - began).toFixed(1);
}

function legend(colours, isDifference) {
  const { lut, top } = colours;
  part("legendLow").textContent = isDifference ? "−" + percent(top) : "0";
  part("legendMiddle").textContent = isDifference ? "0" : percent(top / 2);
  part("legendHigh").textContent = (isDifference ? "+" : "") + percent(top);
  part("legendUnit").textContent = (isDifference ? "B − A, " : "") + "of the word's attention, per patch" + (sideB() && !isDifference ? "; one scale for A and B" : "");
  const strip = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) {
    const { colour, strength } = onScale(isDifference ? (i / 127.5 - 1) * top : (i / 255) * top, { ...look, ...colours, signed: isDifference });
    strip.data.set([lut[3 * colour], lut[3 * colour + 1], lut[3 * colour + 2], strength || i === 0 || isDifference ? 255 : 0], 4 * i);
  }
  element.querySelector("canvas.ramp").getContext("2d").putImageData(strip, 0, 0);
}

function paneLabels(all) {
  const named = comparing() ? both() : views.length > 1 ? [front()] : [];
  for (const [place, name] of ["paneA", "paneB"].entries()) {
    const label = part(name);
    const one = named[place];
    label.hidden = !one;
    if (!one) continue;
    const words = sideName(one) + " · " + one.label;
    label.textContent = pair.mode === "difference" && comparing() ? (place ? "red: more in " : "blue: more in ") + words : words;
    label.dataset.side = comparing() ? (place ? "right" : "left") : "middle";
  }
  const handle = part("wipe");
  handle.hidden = !(comparing() && pair.mode === "wipe");
  handle.style.left = 100 * pair.wipe + "%";
  handle.setAttribute("aria-valuenow", Math.round(100 * pair.wipe));
}

// ---- grey levels: for the eye only, the model has read the picture as it was opened ---------------

let tonedSheet = null;
function toned() {
  if (levels.centre === 127.5 && levels.width === 255) return picture;
  const key = levels.centre + "/" + levels.width;
  if (tonedSheet?.key === key && tonedSheet.of === picture) return tonedSheet.sheet;
  // Large pictures are toned at the size in which they can be seen.
  const shrink = Math.min(1, 2048 / Math.max(picture.naturalWidth, picture.naturalHeight));
  const sheet = new OffscreenCanvas(Math.max(1, Math.round(picture.naturalWidth * shrink)), Math.max(1, Math.round(picture.naturalHeight * shrink)));
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, sheet.width, sheet.height);
  const pixels = context.getImageData(0, 0, sheet.width, sheet.height);
  const tone = Uint8ClampedArray.from({ length: 256 }, (_, grey) => 255 * ((grey - levels.centre) / levels.width + 0.5));
  for (let i = 0; i < pixels.data.length; i++) if ((i & 3) !== 3) pixels.data[i] = tone[pixels.data[i]];
  context.putImageData(pixels, 0, 0);
  tonedSheet = { key, of: picture, sheet };
  return sheet;
}

// In the file's units where the picture came from a window, else in grey values of the picture.
function levelWords() {
  if (levels.centre === 127.5 && levels.width === 255) return "";
  const [centre, width] = data.image.window || [127.5, 255];
  return "display C " + Math.round(centre + ((levels.centre - 127.5) / 255) * width) + "  W " + Math.round((levels.width / 255) * width);
}

// ---- words about the picture -----------------------------------------------------------------------

const modelWords = () => data.result.model.split(" (")[0];
const headWords = (one) =>
  ({ critical: one.critical.length + " critical heads", mean: "mean of all " + one.layers * one.heads + " heads", head: "layer " + chosen.layer + ", head " + chosen.head })[chosen.heads];

function wordWords(one) {
  if (chosen.words !== "own") return "mean of the " + chosen.words;
  const rows = rowsOf(one);
  return one.tokens.filter((token) => isWord(token) && rows.includes(token.row)).map((token) => "“" + token.text.trim() + "”").join(" + ");
}

// What the picture shows, so that a screenshot can stand alone: model, adapter, heads, words, method.
function caption(missing) {
  if (!data.result) {
    part("caption").textContent = "";
    return;
  }
  const shown = comparing() ? both() : [front()];
  const named = shown.map((one) => (comparing() ? sideName(one) + ": " : "") + one.label);
  const adapters = pair.mode === "difference" && comparing() ? named.reverse().join(" less ") : named.join(" against ");
  const one = shown[0];
  const sinks = look.sinks && one.sinks.length;
  const method = experts.on ? "experts of the key router, layer " + experts.layer : sinks ? "attention, " + sinks + " sink patches filled in" : "raw attention";
  const lines = [modelWords(), (comparing() ? "adapters " : "adapter: ") + adapters, headWords(one), wordWords(one), method];
  const share = mapOf(front()).share;
  if (share !== undefined && !comparing()) lines.push(percent(share) + " of its attention on the image");
  part("caption").textContent = [missing, trouble, lines.join(" · ")].filter(Boolean).join(" · ");
}

// ---- looks -------------------------------------------------------------------------------------

element.querySelectorAll(".map-tools [data-control], .words-panel [data-control]").forEach((control) =>
  control.addEventListener("input", () => {
    const name = control.dataset.control;
    if (control.type === "checkbox") look[name] = control.checked;
    else if (name === "gamma") look.gamma = 2 ** (-Number(control.value) / 50);
    else if (control.type === "range") look[name] = Number(control.value) / 100;
    else look[name] = control.value;
    if (name === "template") part("words").classList.toggle("with-template", control.checked);
    draw();
  }),
);
