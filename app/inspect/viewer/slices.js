// Walking through the slices of a volume or the frames of a film.

// How far a wheel turns for one slice, in pixels: a mouse's wheel jumps further, a touch pad's moves by less.
const NOTCH = 40;
// How long a slice is waited for before another one is asked for all the same, in milliseconds.
const PATIENCE = 3000;

export function createSlices({ part, state, trigger }) {
  const slider = part("slices");
  let wanted = null; // asked for, and not yet on show
  let sent = -Infinity; // when
  let turned = 0;

  const count = () => (state.data.session && state.data.image?.frames) || 1;
  const here = () => wanted ?? state.data.image.frame;

  function go(frame) {
    const next = Math.max(0, Math.min(count() - 1, frame));
    if (count() < 2 || next === here()) return;
    wanted = next;
    slider.value = String(next);
    if (performance.now() - sent > PATIENCE) ask();
  }

  function ask() {
    sent = performance.now();
    trigger("walk", { frame: wanted });
  }

  const walk = (steps) => go(here() + steps);

  function turn(pixels) {
    turned += pixels;
    const steps = Math.trunc(turned / NOTCH);
    turned -= steps * NOTCH;
    if (steps) walk(Math.sign(steps));
  }

  // Another picture is on show: of the same volume, or (`fresh`) of another file. Of all that were wanted meanwhile only
  // the last is asked for.
  function receive(fresh) {
    sent = -Infinity;
    slider.hidden = count() < 2;
    if (!fresh && !slider.hidden && wanted !== null && wanted !== state.data.image.frame) return ask();
    wanted = null;
    if (slider.hidden) return;
    slider.max = String(count() - 1);
    slider.value = String(state.data.image.frame);
    slider.setAttribute("aria-valuetext", state.data.image.frame + 1 + " of " + count());
  }

  slider.addEventListener("input", () => go(Number(slider.value)));
  for (const name of ["pointerdown", "wheel"]) slider.addEventListener(name, (event) => event.stopPropagation());
  slider.addEventListener("keydown", (event) => event.stopPropagation());

  return {
    receive,
    turn,
    walk,
    get several() {
      return count() > 1;
    },
  };
}
