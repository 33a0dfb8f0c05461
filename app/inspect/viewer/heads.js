// The layers x heads overview, the head set on show, and the heads in order.

import { make, press } from "../../common/static/dom.js";
import { percent } from "../../common/static/format.js";

export function createHeads(viewer) {
  const { element, part, state } = viewer;
  const shown = { quantity: "ratio", order: "layer", difference: false };
  const QUANTITIES = {
    ratio: { words: "of its attention on the image", short: "attention on the image", of: (view) => view.ratio },
    mass: {
      words: "of its attention on the image inside the chosen regions",
      short: "inside the chosen regions",
      of: (view) => mass(view),
    },
    entropy: {
      words: "spread over the image (entropy)",
      short: "spread (entropy)",
      of: (view) => view.entropy,
      plain: true,
    },
    place: {
      words: "of its attention on what is pointed out",
      short: "on what is pointed out",
      of: (view) => viewer.place.headShares(view),
    },
  };

  const mass = (view) => state.numbersInRegions(view)?.head_mass || null;

  // Numbers of the overview, [layers * heads] with null where one is not defined, or null where there are none (yet).
  function numbersOnShow() {
    const { of } = QUANTITIES[shown.quantity];
    if (!shown.difference || !state.sideB) return of(state.front);
    const [before, after] = [of(state.sideA), of(state.sideB)];
    if (!before || !after || before.length !== after.length) return null;
    return after.map((value, place) => (value === null || before[place] === null ? null : value - before[place]));
  }

  function numberWords(value) {
    if (value === null) return "not defined";
    const sign = shown.difference && value > 0 ? "+" : value < 0 ? "−" : "";
    const size = Math.abs(value);
    return sign + (QUANTITIES[shown.quantity].plain ? size.toFixed(2) : percent(size));
  }

  function build() {
    const holder = part("heads");
    const focused = holder.contains(document.activeElement) ? document.activeElement.dataset : null;
    holder.replaceChildren();
    if (!state.views.length) return;
    const view = state.front;
    setControls(view);
    const numbers = numbersOnShow();
    const range = rangeOf((numbers || []).filter((value) => value !== null));
    describe(view, range);
    const places = ordered(view, numbers);
    const perLine = shown.order === "layer" ? view.heads : 4;
    const critical = criticalPlaces(view);
    for (let start = 0; start < places.length; start += perLine) {
      const line = make("div", { role: "row" });
      if (shown.order === "layer")
        line.append(make("span", { role: "rowheader", textContent: "L" + start / view.heads }));
      const cells = places.slice(start, start + perLine).map((place) => {
        const [layer, head] = [Math.floor(place / view.heads), place % view.heads];
        return cell(layer, head, numbers ? numbers[place] : null, range, critical.has(place));
      });
      line.append(...cells);
      holder.append(line);
    }
    mark();
    if (focused)
      holder.querySelector("[data-layer='" + focused.layer + "'][data-head='" + focused.head + "']")?.focus();
  }

  // A quantity that there is no more gives way to the visual ratio.
  function setControls(view) {
    const there = { mass: Boolean(mass(view)), place: Boolean(state.place.weights) };
    if (there[shown.quantity] === false) shown.quantity = "ratio";
    const list = element.querySelector("[data-control=quantity]");
    list.value = shown.quantity;
    for (const [name, has] of Object.entries(there)) list.querySelector("[value=" + name + "]").disabled = !has;
    const chip = element.querySelector("[data-action=headsDifference]");
    chip.hidden = !state.sideB;
    if (!state.sideB) shown.difference = false;
    press(chip, shown.difference);
  }

  function rangeOf(known) {
    const reach = Math.max(...known.map(Math.abs), 1e-9);
    const low = shown.difference ? -reach : Math.min(...known, Infinity);
    const high = shown.difference ? reach : Math.max(...known, -Infinity);
    return { low, high, empty: !known.length };
  }

  function describe({ layers, heads, adapter }, { low, high, empty }) {
    const holder = part("heads");
    const { short } = QUANTITIES[shown.quantity];
    const which = shown.difference ? "B − A" : state.nameOf(state.front) + ": " + adapter;
    part("headsLow").textContent = empty ? "" : numberWords(low);
    part("headsHigh").textContent = empty ? "" : numberWords(high);
    part("headsUnit").textContent = short;
    part("headsNote").textContent =
      layers + " layers × " + heads + " heads" + (state.sideB ? " · " + which : ", numbered from 0");
    holder.setAttribute("aria-label", short + ", layers by heads");
    holder.style.setProperty("--columns", heads);
    for (const node of [holder, part("headsRamp")]) node.classList.toggle("signed", shown.difference);
    holder.classList.toggle("sorted", shown.order !== "layer");
    holder.classList.toggle("many", shown.order === "layer" && layers * heads > 160);
  }

  function criticalPlaces(view) {
    const marked = shown.difference ? state.both : [view];
    return new Set(marked.flatMap((side) => side.critical.map(([layer, head]) => layer * view.heads + head)));
  }

  function ordered(view, numbers) {
    const places = Array.from({ length: view.layers * view.heads }, (_, place) => place);
    if (shown.order === "layer" || !numbers) return places;
    const sign = shown.order === "high" ? -1 : 1;
    const key = (place) => (numbers[place] === null ? Infinity : sign * numbers[place]);
    return places.sort((a, b) => key(a) - key(b) || a - b);
  }

  function cell(layer, head, value, { low, high }, isCritical) {
    const words =
      "Layer " +
      layer +
      ", head " +
      head +
      ": " +
      numberWords(value) +
      " " +
      QUANTITIES[shown.quantity].words +
      (isCritical ? " (critical)" : "");
    const made = make("button", {
      type: "button",
      role: "gridcell",
      className: "cell",
      tabIndex: -1,
      title: words,
      "aria-label": words,
      dataset: { layer, head },
    });
    made.style.setProperty(
      "--level",
      (value === null ? 0 : high > low ? (value - low) / (high - low) : 0.5).toFixed(3),
    );
    made.classList.toggle("critical", isCritical);
    if (shown.order !== "layer")
      made.append(make("b", { textContent: layer + "." + head }), make("span", { textContent: numberWords(value) }));
    return made;
  }

  function mark() {
    const { heads, layer, head } = state.chosen;
    element.querySelectorAll("[data-heads]").forEach((chip) => press(chip, chip.dataset.heads === heads));
    part("oneHead").textContent = heads === "head" ? "Layer " + layer + ", head " + head : "One head";
    const cells = [...part("heads").querySelectorAll(".cell")];
    let stop = cells[0];
    for (const one of cells) {
      const here = Number(one.dataset.layer) === layer && Number(one.dataset.head) === head;
      one.setAttribute("aria-selected", String(here && heads === "head"));
      one.tabIndex = -1;
      if (here) stop = one;
    }
    if (stop) stop.tabIndex = 0;
  }

  function choose(heads, layer = state.chosen.layer, head = state.chosen.head) {
    state.chosen = { ...state.chosen, heads, layer, head };
    state.trouble = "";
    mark();
    viewer.draw();
  }

  // To another layer and head; the first step shows the head that is marked.
  function step([layers, heads]) {
    if (!state.views.length) return;
    const view = state.front;
    const { chosen } = state;
    const fresh = chosen.heads !== "head";
    const layer = Math.max(0, Math.min(view.layers - 1, chosen.layer + (fresh ? 0 : layers)));
    const head = Math.max(0, Math.min(view.heads - 1, chosen.head + (fresh ? 0 : heads)));
    choose("head", layer, head);
  }

  // The next build shows this quantity, where there is one.
  function show(quantity) {
    shown.quantity = quantity;
  }

  // A button that shows a head, for the tables.
  const link = (layer, head) =>
    make("button", {
      type: "button",
      className: "link",
      textContent: "Layer " + layer + ", head " + head,
      dataset: { layer, head },
    });

  function followLinks(body) {
    body.addEventListener("click", (event) => {
      const button = event.target.closest("[data-head]");
      if (button) choose("head", Number(button.dataset.layer), Number(button.dataset.head));
    });
  }

  followLinks(part("heads"));
  part("heads").addEventListener("keydown", (event) => {
    if (!STEPS[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    step(STEPS[event.key]);
    part("heads").querySelector(".cell[aria-selected=true]")?.focus();
  });
  element
    .querySelectorAll("[data-heads]")
    .forEach((chip) => chip.addEventListener("click", () => choose(chip.dataset.heads)));
  element.querySelector("[data-control=quantity]").addEventListener("change", (event) => {
    show(event.target.value);
    build();
  });
  element.querySelector("[data-control=order]").addEventListener("change", (event) => {
    shown.order = event.target.value;
    build();
  });
  element.querySelector("[data-action=headsDifference]").addEventListener("click", () => {
    shown.difference = !shown.difference;
    build();
  });

  return { build, mark, choose, step, show, mass, link, followLinks };
}

export const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
