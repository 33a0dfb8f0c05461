// Regions on the stage: outlines with their numbers, the words under the pointer, and the box that is being drawn.

let showOutlines = true;
let drawing = { on: false, from: null, to: null }; // in source pixels
const boxButton = element.querySelector("[data-action=box]");
const tip = part("tip");

function pathsOf(rows) {
  return new Map(
    rows.map((row) => {
      const path = new Path2D();
      for (const line of row.contours) {
        // Contours run through the middle of the border's pixels.
        for (let i = 0; i < line.length; i += 2) path[i ? "lineTo" : "moveTo"](line[i] + 0.5, line[i + 1] + 0.5);
        path.closePath();
      }
      return [row.key, path];
    }),
  );
}

function drawRegions(context, place) {
  if (!showOutlines) return;
  // The best last, so that it lies on top.
  const rows = [...regions.rows].reverse();
  for (const row of rows) {
    const on = regions.on.has(row.key);
    const here = row.key === hovered;
    if (!on && !here) continue;
    const path = regions.paths.get(row.key);
    context.save();
    context.setTransform(place.scale, 0, 0, place.scale, place.x, place.y);
    context.lineJoin = "round";
    const width = ((here ? 3 : 1.75) * place.ratio) / place.scale;
    context.setLineDash(on ? [] : [3 * width, 2 * width]);
    context.strokeStyle = "rgb(0 0 0 / .6)";
    context.lineWidth = 2 * width;
    context.stroke(path);
    context.strokeStyle = row.colour;
    context.lineWidth = width;
    context.stroke(path);
    if (here) {
      context.globalAlpha = 0.16;
      context.fillStyle = row.colour;
      context.fill(path, "evenodd");
    }
    context.restore();
  }
  const taken = [];
  for (const row of [...rows].reverse()) {
    if (regions.on.has(row.key) || row.key === hovered) drawNumber(context, place, row, taken);
  }
}

// The rank on a dark disc where the region is widest; beside it where another number stands already.
function drawNumber(context, place, row, taken) {
  const size = 8.5 * place.ratio;
  let x = place.x + (row.anchor[0] + 0.5) * place.scale;
  const y = place.y + (row.anchor[1] + 0.5) * place.scale;
  while (taken.some(([u, v]) => Math.hypot(u - x, v - y) < 2 * size)) x += 2 * size;
  taken.push([x, y]);
  context.save();
  context.beginPath();
  context.arc(x, y, size, 0, 2 * Math.PI);
  context.fillStyle = "rgb(8 12 18 / .82)";
  context.fill();
  context.lineWidth = 1.5 * place.ratio;
  context.strokeStyle = row.colour;
  context.stroke();
  context.fillStyle = "#fff";
  context.font = "600 " + 10.5 * place.ratio + "px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(row.rank, x, y + 0.5 * place.ratio);
  context.restore();
}

function drawBox(context, place) {
  const [x, y, width, height] = boxOf(drawing.from, drawing.to);
  context.save();
  context.setLineDash([5 * place.ratio, 4 * place.ratio]);
  for (const [colour, thick] of [["rgb(0 0 0 / .7)", 3], ["#ffffff", 1.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick * place.ratio;
    context.strokeRect(place.x + x * place.scale, place.y + y * place.scale, width * place.scale, height * place.scale);
  }
  context.restore();
}

function boxOf(from, to) {
  const cut = (value, most) => Math.max(0, Math.min(most, value));
  const { width, height } = data.image;
  const x = cut(Math.floor(Math.min(from[0], to[0])), width);
  const y = cut(Math.floor(Math.min(from[1], to[1])), height);
  return [x, y, cut(Math.ceil(Math.max(from[0], to[0])), width) - x, cut(Math.ceil(Math.max(from[1], to[1])), height) - y];
}

// ---- the words under the pointer ---------------------------------------------------------------------

// The smallest region at a point; those that are switched on go first.
function regionAt(x, y) {
  if (!showOutlines) return null;
  const context = canvas.getContext("2d");
  context.save();
  context.resetTransform();
  const hit = regions.rows.filter((row) => regions.on.has(row.key) && context.isPointInPath(regions.paths.get(row.key), x, y, "evenodd"));
  context.restore();
  return hit.sort((one, other) => one.area - other.area)[0] || null;
}

function showTip(row, left, top, box) {
  tip.hidden = !row;
  hoverRegion(row ? row.key : "");
  if (!row) return;
  tip.replaceChildren(document.createElement("b"), document.createElement("span"));
  tip.firstChild.textContent = regionWords(row);
  tip.lastChild.textContent = "for “" + row.phrase + "”";
  tip.style.borderColor = row.colour;
  const room = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(left + 14, box.width - room.width - 4)) + "px";
  tip.style.top = (top + 18 + room.height > box.height ? top - room.height - 10 : top + 18) + "px";
}

// ---- drawing a box -------------------------------------------------------------------------------------

function startDrawing() {
  if (!data.image) return;
  setBrush(false);
  setLevelling(false);
  drawing = { on: true, from: null, to: null };
  boxButton.setAttribute("aria-pressed", "true");
  stage.dataset.mode = "draw";
  showTip(null);
}

function stopDrawing() {
  drawing = { on: false, from: null, to: null };
  boxButton.setAttribute("aria-pressed", "false");
  delete stage.dataset.mode;
  draw();
}

boxButton.addEventListener("click", () => (drawing.on ? stopDrawing() : startDrawing()));
element.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target !== stage) KEYS.Escape();
});
element.querySelector("[data-control=outlines]").addEventListener("change", (event) => {
  showOutlines = event.target.checked;
  draw();
});
stage.addEventListener("pointerdown", (event) => {
  if (!drawing.on || event.button) return;
  drawing.from = drawing.to = toSource(event.clientX, event.clientY);
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (!drawing.on || !drawing.from) return;
  drawing.to = toSource(event.clientX, event.clientY);
  draw();
});
stage.addEventListener("pointercancel", () => drawing.on && stopDrawing());
stage.addEventListener("pointerup", () => {
  if (!drawing.on || !drawing.from) return;
  const box = boxOf(drawing.from, drawing.to);
  stopDrawing();
  // A click is no box.
  if (box[2] > 1 && box[3] > 1) askRegions("drawing", (board) => server.draw_region({ board, box, prompt: wanted() }));
});
