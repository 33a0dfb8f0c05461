// The outline of the reference mask: where the answer lies, by the example or the data set. Dashed and without a colour,
// so that it is no region's.

import { pathOf } from "./regions.js";

export function createReferenceMask({ part, state }) {
  let path = null;

  function receive(result) {
    path = result?.referenceMask ? pathOf(result.referenceMask) : null;
    part("referenceMask").hidden = !path;
  }

  const isDrawn = () => Boolean(path && state.display.reference);

  function draw(context, place) {
    if (!isDrawn()) return;
    const width = (1.5 * place.ratio) / place.scale;
    context.save();
    context.setTransform(place.scale, 0, 0, place.scale, place.x, place.y);
    context.lineJoin = "round";
    for (const [colour, factor, dash] of [
      ["rgb(0 0 0 / .7)", 2.2, []],
      ["#fff", 1, [4 * width, 3 * width]],
    ]) {
      context.setLineDash(dash);
      context.lineWidth = factor * width;
      context.strokeStyle = colour;
      context.stroke(path);
    }
    context.restore();
  }

  return { receive, draw, isDrawn };
}
