// A place that is pointed out, by a region or a brush: which words and heads look there.

let focus = { weights: null, label: "", key: "" }; // weights: share of each patch that belongs to the place
const brushButton = element.querySelector("[data-action=brush]");
let brush = { on: false, patches: null };

const inFocus = (values) => values.reduce((sum, value, patch) => sum + value * focus.weights[patch], 0);

// Each head's share of attention on the place, mean of the answer (of the question where there is no answer).
function focusShares(one) {
  const means = one.headMeans.answer || one.headMeans.question;
  if (!focus.weights || !means || focus.weights.length !== one.patches) return null;
  return Array.from({ length: one.layers * one.heads }, (_, place) => inFocus(means.subarray(place * one.patches, (place + 1) * one.patches)));
}

function setFocus(weights, label, key) {
  focus = { weights, label, key };
  if (weights) {
    grid.quantity = "focus";
    chooseTab("focus");
  }
  buildWords();
  buildHeads();
  buildFocus();
  draw();
}

const clearFocus = () => focus.weights && setFocus(null, "", "");

// The share of each patch that a region covers, from five by five points of the patch.
function patchesOfRegion(row) {
  const context = canvas.getContext("2d");
  const path = regions.paths.get(row.key);
  const weights = new Float32Array(front().patches);
  context.save();
  context.resetTransform();
  for (const tile of front().tiles) {
    const [x0, y0, x1, y1] = tile.box;
    const [width, height] = [(x1 - x0) / tile.columns, (y1 - y0) / tile.rows];
    for (let patch = 0; patch < tile.rows * tile.columns; patch++) {
      const left = x0 + (patch % tile.columns) * width;
      const top = y0 + Math.floor(patch / tile.columns) * height;
      let inside = 0;
      for (let point = 0; point < 25; point++)
        inside += context.isPointInPath(path, left + (((point % 5) + 0.5) / 5) * width, top + ((Math.floor(point / 5) + 0.5) / 5) * height, "evenodd");
      weights[tile.start + patch] = inside / 25;
    }
  }
  context.restore();
  return weights;
}

function focusRegion(row) {
  if (!data.result) return;
  if (focus.key === row.key) clearFocus();
  else setFocus(patchesOfRegion(row), "region " + row.rank, row.key);
}

function drawFocus(context, one, place) {
  const weights = brush.patches ? brushWeights(one) : focus.weights;
  if (!weights || weights.length !== one.patches) return;
  context.save();
  context.fillStyle = "rgb(255 255 255 / .2)";
  context.strokeStyle = "rgb(255 255 255 / .85)";
  context.lineWidth = place.ratio;
  for (const tile of one.tiles) {
    if (tile.overview && one.tiles.some((other) => !other.overview)) continue;
    const [x0, y0, x1, y1] = tile.box;
    const [width, height] = [((x1 - x0) / tile.columns) * place.scale, ((y1 - y0) / tile.rows) * place.scale];
    const inside = (row, column) => row >= 0 && column >= 0 && row < tile.rows && column < tile.columns && weights[tile.start + row * tile.columns + column] >= 0.5;
    for (let row = 0; row < tile.rows; row++)
      for (let column = 0; column < tile.columns; column++) {
        if (!inside(row, column)) continue;
        const left = place.x + x0 * place.scale + column * width;
        const top = place.y + y0 * place.scale + row * height;
        context.fillRect(left, top, width, height);
        context.beginPath();
        if (!inside(row - 1, column)) context.moveTo(left, top), context.lineTo(left + width, top);
        if (!inside(row + 1, column)) context.moveTo(left, top + height), context.lineTo(left + width, top + height);
        if (!inside(row, column - 1)) context.moveTo(left, top), context.lineTo(left, top + height);
        if (!inside(row, column + 1)) context.moveTo(left + width, top), context.lineTo(left + width, top + height);
        context.stroke();
      }
  }
  context.restore();
}

// ---- the panel ------------------------------------------------------------------------------------------

function buildFocus() {
  const has = Boolean(focus.weights && views.length);
  part("focusHint").hidden = has;
  part("focusBody").hidden = !has;
  if (!has) return;
  const one = front();
  const area = total(focus.weights) / one.patches;
  part("focusNote").textContent = "Who looks at " + focus.label + " (" + percent(area) + " of the patches), " + one.label + ". “× chance” is against attention spread evenly over the image.";
  const rows = wordShares(one)
    .map((share, place) => ({ share, token: one.tokens[place] }))
    .filter(({ token }) => isWord(token))
    .map(({ share, token }) => {
      const whole = total(one.maps.critical.subarray(token.row * one.patches, (token.row + 1) * one.patches));
      return { share, chance: whole && area ? share / (whole * area) : 0, name: token.text.trim() + (token.role === "answer" ? " (answer)" : ""), pick: { row: token.row } };
    });
  fillLookers(part("focusWords"), rows);
  const shares = focusShares(one) || [];
  const heads = shares.map((share, place) => {
    const [layer, head] = [Math.floor(place / one.heads), place % one.heads];
    const whole = total(headMap(one, layer, head, one.headMeans.answer ? "answer" : "question"));
    return { share, chance: whole && area ? share / (whole * area) : 0, name: "Layer " + layer + ", head " + head, pick: { layer, head } };
  });
  fillLookers(part("focusHeads"), heads);
}

function fillLookers(body, items) {
  body.replaceChildren();
  items.sort((a, b) => b.share - a.share);
  for (const { share, chance, name, pick } of items.slice(0, 8)) {
    const line = document.createElement("tr");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.textContent = name;
    Object.assign(button.dataset, pick);
    for (const content of [button, percent(share), chance.toFixed(2) + " ×"]) {
      const cell = document.createElement("td");
      cell.append(content);
      line.append(cell);
    }
    body.append(line);
  }
}

part("focusWords").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) chooseWords("own", [Number(button.dataset.row)], front());
});
part("focusHeads").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) chooseHeads("head", Number(button.dataset.layer), Number(button.dataset.head));
});
element.querySelector("[data-action=clearFocus]").addEventListener("click", clearFocus);

// ---- the brush --------------------------------------------------------------------------------------------

function brushWeights(one) {
  const weights = new Float32Array(one.patches);
  for (const patch of brush.patches) weights[patch] = 1;
  return weights;
}

function setBrush(on) {
  if (on && !data.result) return;
  if (on) stopDrawing();
  brush = { on, patches: null };
  brushButton.setAttribute("aria-pressed", String(on));
  stage.dataset.tool = on ? "brush" : "";
  draw();
}

function paint(event) {
  const patch = patchAt(front().tiles, ...toSource(event.clientX, event.clientY));
  if (patch >= 0) brush.patches.add(patch);
  draw();
}

brushButton.addEventListener("click", () => setBrush(!brush.on));
stage.addEventListener("pointerdown", (event) => {
  if (!brush.on || event.button) return;
  stage.setPointerCapture(event.pointerId);
  brush.patches = new Set(event.shiftKey && focus.key === "brush" ? [...focus.weights.keys()].filter((patch) => focus.weights[patch]) : []);
  paint(event);
});
stage.addEventListener("pointermove", (event) => brush.patches && paint(event));
stage.addEventListener("pointerup", () => {
  if (!brush.patches) return;
  const weights = brushWeights(front());
  const count = brush.patches.size;
  brush.patches = null;
  if (count) setFocus(weights, count + (count === 1 ? " painted patch" : " painted patches"), "brush");
});
stage.addEventListener("pointercancel", () => (brush.patches = null));
