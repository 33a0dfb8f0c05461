// The handle between A and B, where one is wiped over the other.

import { wipeShare } from "./layout.js";

export function createWipe({ part, canvas, state, draw }) {
  const handle = part("wipe");
  let dragged = false;

  function set(share) {
    state.pair.wipe = Math.max(0, Math.min(1, share));
    draw();
  }

  const move = (change) => set(state.pair.wipe + change);

  handle.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    dragged = true;
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (dragged) set(wipeShare(canvas.getBoundingClientRect(), event.clientX));
  });
  for (const name of ["pointerup", "pointercancel"]) handle.addEventListener(name, () => (dragged = false));
  handle.addEventListener("keydown", (event) => {
    const change = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (!change) return;
    event.preventDefault();
    event.stopPropagation();
    move(change);
  });

  return { move };
}
