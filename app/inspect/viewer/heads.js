// The layers x heads overview, the head set on show, and the heads in order.

const grid = { quantity: "ratio", order: "layer", difference: false };
const QUANTITIES = {
  ratio: { words: "of its attention on the image", short: "attention on the image", of: (one) => one.ratio },
  mass: { words: "of its attention on the image inside the chosen regions", short: "inside the chosen regions", of: (one) => headMass(one) },
  entropy: { words: "spread over the image (entropy)", short: "spread (entropy)", of: (one) => one.entropy, plain: true },
  focus: { words: "of its attention on what is pointed out", short: "on what is pointed out", of: (one) => focusShares(one) },
};

const headMass = (one) => regions.numbers?.views.find((item) => item.result === one.result && item.adapter === one.adapter)?.head_mass || null;

// Numbers of the grid, [layers * heads] with null where one is not defined, or null where there are none (yet).
function gridNumbers() {
  const { of } = QUANTITIES[grid.quantity];
  if (!grid.difference || !sideB()) return of(front());
  const [before, after] = [of(sideA()), of(sideB())];
  if (!before || !after || before.length !== after.length) return null;
  return after.map((value, place) => (value === null || before[place] === null ? null : value - before[place]));
}

const gridWords = (value) => {
  if (value === null) return "not defined";
  const sign = grid.difference && value > 0 ? "+" : value < 0 ? "−" : "";
  const size = Math.abs(value);
  return sign + (QUANTITIES[grid.quantity].plain ? size.toFixed(2) : percent(size));
};

function buildHeads() {
  const holder = part("heads");
  const focused = holder.contains(document.activeElement) ? document.activeElement.dataset : null;
  holder.replaceChildren();
  if (!views.length) return;
  if (grid.quantity === "mass" && !headMass(front())) grid.quantity = "ratio";
  if (grid.quantity === "focus" && !focus.weights) grid.quantity = "ratio";
  element.querySelector("[data-control=quantity]").value = grid.quantity;
  element.querySelector("[data-control=quantity] [value=mass]").disabled = !headMass(front());
  element.querySelector("[data-control=quantity] [value=focus]").disabled = !focus.weights;
  const chip = element.querySelector("[data-action=gridDifference]");
  chip.hidden = !sideB();
  if (!sideB()) grid.difference = false;
  chip.setAttribute("aria-pressed", String(grid.difference));
  const one = front();
  const { layers, heads } = one;
  const numbers = gridNumbers();
  const marks = both().map((side) => new Set(side.critical.map(([layer, head]) => layer * heads + head)));
  const marked = grid.difference ? new Set(marks.flatMap((set) => [...set])) : marks[one === sideB() ? 1 : 0];
  const known = (numbers || []).filter((value) => value !== null);
  const reach = Math.max(...known.map(Math.abs), 1e-9);
  const low = grid.difference ? -reach : Math.min(...known, Infinity);
  const high = grid.difference ? reach : Math.max(...known, -Infinity);
  part("ratioLow").textContent = known.length ? gridWords(low) : "";
  part("ratioHigh").textContent = known.length ? gridWords(high) : "";
  part("headsUnit").textContent = QUANTITIES[grid.quantity].short;
  part("headsNote").textContent = layers + " layers × " + heads + " heads" + (sideB() ? " · " + (grid.difference ? "B − A" : sideName(one) + ": " + one.adapter) : ", numbered from 0");
  part("heads").setAttribute("aria-label", QUANTITIES[grid.quantity].short + ", layers by heads");
  holder.style.setProperty("--columns", heads);
  holder.classList.toggle("signed", grid.difference);
  part("headsRamp").classList.toggle("signed", grid.difference);
  holder.classList.toggle("sorted", grid.order !== "layer");
  holder.classList.toggle("many", grid.order === "layer" && layers * heads > 160);

  const cellOf = (place) => {
    const value = numbers ? numbers[place] : null;
    const cell = document.createElement("button");
    const [layer, head] = [Math.floor(place / heads), place % heads];
    cell.type = "button";
    cell.setAttribute("role", "gridcell");
    cell.className = "cell";
    cell.dataset.layer = layer;
    cell.dataset.head = head;
    cell.tabIndex = -1;
    cell.style.setProperty("--level", (value === null ? 0 : high > low ? (value - low) / (high - low) : 0.5).toFixed(3));
    cell.classList.toggle("critical", marked.has(place));
    const words = "Layer " + layer + ", head " + head + ": " + gridWords(value) + " " + QUANTITIES[grid.quantity].words + (marked.has(place) ? " (critical)" : "");
    cell.title = words;
    cell.setAttribute("aria-label", words);
    if (grid.order !== "layer") {
      const name = document.createElement("b");
      const number = document.createElement("span");
      name.textContent = layer + "." + head;
      number.textContent = gridWords(value);
      cell.append(name, number);
    }
    return cell;
  };
  const places = Array.from({ length: layers * heads }, (_, place) => place);
  if (grid.order !== "layer" && numbers) {
    const sign = grid.order === "high" ? -1 : 1;
    const key = (place) => (numbers[place] === null ? Infinity : sign * numbers[place]);
    places.sort((a, b) => key(a) - key(b) || a - b);
  }
  const perLine = grid.order === "layer" ? heads : 4;
  for (let start = 0; start < places.length; start += perLine) {
    const line = document.createElement("div");
    line.setAttribute("role", "row");
    if (grid.order === "layer") {
      const name = document.createElement("span");
      name.setAttribute("role", "rowheader");
      name.textContent = "L" + start / heads;
      line.append(name);
    }
    line.append(...places.slice(start, start + perLine).map(cellOf));
    holder.append(line);
  }
  markHeads();
  if (focused) holder.querySelector("[data-layer='" + focused.layer + "'][data-head='" + focused.head + "']")?.focus();
}

function markHeads() {
  element.querySelectorAll("[data-heads]").forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.heads === chosen.heads)));
  part("oneHead").textContent = chosen.heads === "head" ? "Layer " + chosen.layer + ", head " + chosen.head : "One head";
  const cells = [...part("heads").querySelectorAll(".cell")];
  let stop = cells[0];
  cells.forEach((cell) => {
    const here = Number(cell.dataset.layer) === chosen.layer && Number(cell.dataset.head) === chosen.head;
    cell.setAttribute("aria-selected", String(here && chosen.heads === "head"));
    cell.tabIndex = -1;
    if (here) stop = cell;
  });
  if (stop) stop.tabIndex = 0;
}

function chooseHeads(heads, layer = chosen.layer, head = chosen.head) {
  chosen = { ...chosen, heads, layer, head };
  trouble = "";
  markHeads();
  draw();
}

function step(layers, heads) {
  if (!views.length) return;
  const one = front();
  const fresh = chosen.heads !== "head";
  const layer = Math.max(0, Math.min(one.layers - 1, chosen.layer + (fresh ? 0 : layers)));
  const head = Math.max(0, Math.min(one.heads - 1, chosen.head + (fresh ? 0 : heads)));
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
  event.stopPropagation();
  step(...STEPS[event.key]);
  part("heads").querySelector(".cell[aria-selected=true]")?.focus();
});
element.querySelectorAll("[data-heads]").forEach((chip) => chip.addEventListener("click", () => chooseHeads(chip.dataset.heads)));
for (const name of ["quantity", "order"])
  element.querySelector("[data-control=" + name + "]").addEventListener("change", (event) => {
    grid[name] = event.target.value;
    buildHeads();
  });
element.querySelector("[data-action=gridDifference]").addEventListener("click", () => {
  grid.difference = !grid.difference;
  buildHeads();
});
