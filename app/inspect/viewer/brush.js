// The brush: painting over patches points them out.

import { press } from "../../common/static/dom.js";
import { count } from "../../common/static/format.js";
import { patchAt } from "../../common/static/patches.js";

export function createBrush(viewer) {
  const { element, state, stage } = viewer;
  const button = element.querySelector("[data-action=brush]");
  const brush = { active: false, painted: null };

  function set(active) {
    if (active && !state.data.result) return;
    if (active) for (const tool of [viewer.box, viewer.levels, viewer.measures]) tool.stop();
    Object.assign(brush, { active, painted: null });
    press(button, active);
    stage.dataset.tool = active ? "brush" : "";
    viewer.draw();
  }

  // What is being painted, as shares of the view's patches; null while nothing is.
  function weights(view) {
    if (!brush.painted) return null;
    const shares = new Float32Array(view.patches);
    for (const patch of brush.painted) shares[patch] = 1;
    return shares;
  }

  function paint(event) {
    const patch = patchAt(state.front.tiles, ...viewer.pointer.toSource(event));
    if (patch >= 0) brush.painted.add(patch);
    viewer.draw();
  }

  button.addEventListener("click", () => set(!brush.active));
  stage.addEventListener("pointerdown", (event) => {
    if (!brush.active || event.button) return;
    stage.setPointerCapture(event.pointerId);
    const before = state.place.weights;
    brush.painted = new Set(
      event.shiftKey && state.place.key === "brush" ? [...before.keys()].filter((patch) => before[patch]) : [],
    );
    paint(event);
  });
  stage.addEventListener("pointermove", (event) => brush.painted && paint(event));
  stage.addEventListener("pointerup", () => {
    if (!brush.painted) return;
    const shares = weights(state.front);
    const { size } = brush.painted;
    brush.painted = null;
    if (size) viewer.place.set(shares, count(size, "painted patch", "painted patches"), "brush");
  });
  stage.addEventListener("pointercancel", () => (brush.painted = null));

  return {
    get active() {
      return brush.active;
    },
    stop: () => set(false),
    weights,
  };
}
