// Experts of an A3MoE adapter: how the question mixed the query experts, and which expert each patch went to.

let experts = { on: false, layer: 0 };
const EXPERT_COLOURS = ["#56b4e9", "#e69f00", "#00c691", "#f0e442", "#e08dbb", "#ff7033", "#a78bfa", "#a3e635", "#f5f5f5", "#2dd4bf", "#fdbaba", "#3b82f6", "#c2410c", "#65a30d", "#be185d", "#8b9eb3"];
const expertColour = (expert) => EXPERT_COLOURS[expert % EXPERT_COLOURS.length];
const withExperts = () => [front(), ...both()].find((one) => one?.experts) || null;

function drawExperts(context, one, place) {
  context.save();
  context.globalAlpha = 0.25 + 0.5 * look.opacity;
  const start = experts.layer * one.patches;
  for (const tile of one.tiles) {
    if (tile.overview && one.tiles.some((other) => !other.overview)) continue;
    const [x0, y0, x1, y1] = tile.box;
    const [width, height] = [((x1 - x0) / tile.columns) * place.scale, ((y1 - y0) / tile.rows) * place.scale];
    for (let patch = 0; patch < tile.rows * tile.columns; patch++) {
      context.fillStyle = expertColour(one.experts.first[start + tile.start + patch]);
      const left = place.x + x0 * place.scale + (patch % tile.columns) * width;
      const top = place.y + y0 * place.scale + Math.floor(patch / tile.columns) * height;
      // Whole pixels, so that neighbours neither overlap nor leave a seam.
      const [x, y] = [Math.round(left), Math.round(top)];
      context.fillRect(x, y, Math.round(left + width) - x, Math.round(top + height) - y);
    }
  }
  context.restore();
}

function buildExperts() {
  const one = views.length ? withExperts() : null;
  part("expertHint").hidden = Boolean(one);
  part("expertBody").hidden = !one;
  if (!one) {
    experts = { on: false, layer: 0 };
    return;
  }
  const { gates, first, count, each } = one.experts;
  const layers = gates ? gates.length : first.length / one.patches;
  experts.layer = Math.min(experts.layer, layers - 1);
  experts.on = experts.on && Boolean(first);
  const list = element.querySelector("[data-control=expertLayer]");
  list.replaceChildren(...Array.from({ length: layers }, (_, layer) => new Option("layer " + layer, String(layer))));
  list.value = String(experts.layer);
  const box = element.querySelector("[data-control=experts]");
  box.checked = experts.on;
  box.disabled = !first;
  part("expertNote").textContent = one.label + (gates ? ": the question's mix of " + gates[0].length + " query experts in each layer" : ": no choice of query experts") + (first ? "; each patch uses " + each + " of " + count + " key experts." : "; no choice of key experts.");
  const gateHolder = part("gates");
  gateHolder.replaceChildren();
  gateHolder.style.setProperty("--columns", gates ? gates[0].length : 1);
  (gates || []).forEach((row, layer) => {
    const line = document.createElement("div");
    line.setAttribute("role", "row");
    const name = document.createElement("span");
    name.setAttribute("role", "rowheader");
    name.textContent = "L" + layer;
    line.append(name);
    row.forEach((gate, expert) => {
      const cell = document.createElement("span");
      cell.className = "gate";
      cell.setAttribute("role", "cell");
      cell.style.setProperty("--level", gate.toFixed(3));
      cell.textContent = Math.round(100 * gate);
      cell.title = "Layer " + layer + ", expert " + expert + ": " + percent(gate) + " of the mix";
      line.append(cell);
    });
    gateHolder.append(line);
  });
  const load = new Map();
  if (first) for (const expert of first.subarray(experts.layer * one.patches, (experts.layer + 1) * one.patches)) load.set(expert, (load.get(expert) || 0) + 1);
  part("expertLoad").replaceChildren(
    ...[...load].sort((a, b) => b[1] - a[1]).map(([expert, patches]) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = expertColour(expert);
      item.append(swatch, "expert " + expert + ": " + percent(patches / one.patches) + " of the patches");
      return item;
    }),
  );
}

element.querySelector("[data-control=experts]").addEventListener("change", (event) => {
  experts.on = event.target.checked;
  draw();
});
element.querySelector("[data-control=expertLayer]").addEventListener("change", (event) => {
  experts.layer = Number(event.target.value);
  buildExperts();
  draw();
});
