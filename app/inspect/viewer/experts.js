// Experts of an A3MoE adapter: how the question mixed the query experts, and which expert each patch went to.

import { make } from "../../common/static/dom.js";
import { percent } from "../../common/static/format.js";
import { detailedTiles, patchesOf } from "../../common/static/patches.js";

const COLOURS =
  "#56b4e9 #e69f00 #00c691 #f0e442 #e08dbb #ff7033 #a78bfa #a3e635 #f5f5f5 #2dd4bf #fdbaba #3b82f6 #c2410c #65a30d #be185d #8b9eb3".split(
    " ",
  );
const colourOf = (expert) => COLOURS[expert % COLOURS.length];

export function createExperts(viewer) {
  const { element, part, state } = viewer;

  // Each patch in the colour of its expert.
  function draw(context, view, { x, y, scale }) {
    context.save();
    context.globalAlpha = 0.25 + 0.5 * state.display.opacity;
    const first = firstOf(view);
    for (const tile of detailedTiles(view.tiles))
      for (const at of patchesOf(tile)) {
        context.fillStyle = colourOf(first[at.patch]);
        // Whole pixels, so that neighbours neither overlap nor leave a seam.
        const [left, top, right, bottom] = [
          x + at.x * scale,
          y + at.y * scale,
          x + (at.x + at.width) * scale,
          y + (at.y + at.height) * scale,
        ].map(Math.round);
        context.fillRect(left, top, right - left, bottom - top);
      }
    context.restore();
  }

  // Each patch's first expert in the layer on show.
  function firstOf(view) {
    const start = state.experts.layer * view.patches;
    return view.experts.first.subarray(start, start + view.patches);
  }

  function build() {
    const view = state.views.length ? [state.front, ...state.both].find((one) => one.experts) : null;
    const shown = state.views.length ? (state.comparing ? state.both : [state.front]) : [];
    const lacking = !shown.some((one) => one.experts?.first) || state.mode === "difference";
    part("expertHint").hidden = Boolean(view);
    part("expertBody").hidden = !view;
    if (!view) {
      state.experts = { on: false, layer: 0 };
      return;
    }
    const { gates, first, count, each } = view.experts;
    const layers = gates ? gates.length : first.length / view.patches;
    const layer = Math.min(state.experts.layer, layers - 1);
    state.experts = { on: state.experts.on && !lacking, layer };
    const list = element.querySelector("[data-control=expertLayer]");
    list.replaceChildren(...Array.from({ length: layers }, (_, place) => new Option("layer " + place, String(place))));
    list.value = String(layer);
    const box = element.querySelector("[data-control=experts]");
    box.checked = state.experts.on;
    box.disabled = lacking;
    part("expertReason").textContent = !lacking
      ? ""
      : state.mode === "difference"
        ? "A difference has no experts: show B alone or side by side."
        : state.front.label +
          " has no key experts: show " +
          (first ? view.label : "an A3MoE adapter") +
          " on the picture.";
    part("expertNote").textContent =
      view.label +
      (gates
        ? ": the question's mix of " + gates[0].length + " query experts in each layer"
        : ": no choice of query experts") +
      (first ? "; each patch uses " + each + " of " + count + " key experts." : "; no choice of key experts.");
    buildGates(gates || []);
    part("expertLoad").replaceChildren(...(first ? loads(firstOf(view)) : []));
  }

  function buildGates(gates) {
    part("gates").style.setProperty("--columns", gates.length ? gates[0].length : 1);
    part("gates").replaceChildren(
      ...gates.map((row, layer) =>
        make(
          "div",
          { role: "row" },
          make("span", { role: "rowheader", textContent: "L" + layer }),
          ...row.map((gate, expert) => gateCell(layer, expert, gate)),
        ),
      ),
    );
  }

  function gateCell(layer, expert, gate) {
    const title = "Layer " + layer + ", expert " + expert + ": " + percent(gate) + " of the mix";
    const cell = make("span", { className: "gate", role: "cell", textContent: Math.round(100 * gate), title });
    cell.style.setProperty("--level", gate.toFixed(3));
    return cell;
  }

  function loads(first) {
    const load = new Map();
    for (const expert of first) load.set(expert, (load.get(expert) || 0) + 1);
    return [...load]
      .sort((a, b) => b[1] - a[1])
      .map(([expert, patches]) => {
        const swatch = make("span", { className: "swatch" });
        swatch.style.background = colourOf(expert);
        return make("li", {}, swatch, "expert " + expert + ": " + percent(patches / first.length) + " of the patches");
      });
  }

  // Words about the patch under the pointer, "" where experts are not on show.
  const patchWords = (view, patch) => (state.showsExperts(view) ? " · expert " + firstOf(view)[patch] : "");

  element.querySelector("[data-control=experts]").addEventListener("change", (event) => {
    state.experts.on = event.target.checked;
    viewer.draw();
  });
  element.querySelector("[data-control=expertLayer]").addEventListener("change", (event) => {
    state.experts.layer = Number(event.target.value);
    build();
    viewer.draw();
  });

  return { build, draw, patchWords };
}
