// Drawing a box on the image, for a region of one's own.

import { press } from "../../common/static/dom.js";
import { boxBetween } from "./layout.js";

export function createBoxTool(viewer) {
  const { element, state, stage } = viewer;
  const button = element.querySelector("[data-action=box]");
  let drawn = { active: false, from: null, to: null }; // in source pixels

  function start() {
    if (!state.data.image) return;
    viewer.brush.stop();
    viewer.levels.stop();
    viewer.measures.stop();
    drawn = { active: true, from: null, to: null };
    press(button, true);
    stage.dataset.mode = "draw";
    viewer.outlines.showTip(null);
  }

  function stop() {
    drawn = { active: false, from: null, to: null };
    press(button, false);
    delete stage.dataset.mode;
    viewer.draw();
  }

  function draw(context, place) {
    if (!drawn.from) return;
    const [x, y, width, height] = boxBetween(drawn.from, drawn.to, state.data.image);
    context.save();
    context.setLineDash([5 * place.ratio, 4 * place.ratio]);
    for (const [colour, thick] of [
      ["rgb(0 0 0 / .7)", 3],
      ["#ffffff", 1.5],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = thick * place.ratio;
      context.strokeRect(
        place.x + x * place.scale,
        place.y + y * place.scale,
        width * place.scale,
        height * place.scale,
      );
    }
    context.restore();
  }

  button.addEventListener("click", () => (drawn.active ? stop() : start()));
  stage.addEventListener("pointerdown", (event) => {
    if (!drawn.active || event.button) return;
    drawn.from = drawn.to = viewer.pointer.toSource(event);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drawn.from) return;
    drawn.to = viewer.pointer.toSource(event);
    viewer.draw();
  });
  stage.addEventListener("pointercancel", () => drawn.active && stop());
  stage.addEventListener("pointerup", () => {
    if (!drawn.from) return;
    const box = boxBetween(drawn.from, drawn.to, state.data.image);
    stop();
    // A click is no box.
    if (box[2] > 1 && box[3] > 1) viewer.regions.addBox(box);
  });

  return {
    get active() {
      return drawn.active;
    },
    stop,
    draw,
  };
}
