// The layers x heads overview and the head set on show.

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

