// Walking through the slices of a volume or the frames of a film.

// How far a wheel turns for one slice, in pixels: a mouse's wheel jumps further, a touch pad's moves by less.
const NOTCH = 40;
// How long a slice is waited for before another one is asked for all the same, in milliseconds.
const PATIENCE = 3000;

export function createSlices(viewer) {
  const { part, state, trigger } = viewer;
  const slider = part("slices");
  let wanted = null; // asked for or drawn already, and not yet the one that the server has on show
  let told = null; // the frame that the server has on show
  let sent = -Infinity; // when the server was asked for another one
  let turned = 0;

  const count = () => (state.data.session && state.data.image?.frames) || 1;
  const here = () => wanted ?? state.data.image.frame;

  // Shows a frame: at once where it is there already. Without `tell` the server hears of it when the walk ends.
  function go(frame, { tell = true } = {}) {
    const next = Math.max(0, Math.min(count() - 1, frame));
    if (count() < 2 || next === here()) return;
    const direction = Math.sign(next - here());
    wanted = next;
    tellSlider(next);
    const ready = viewer.ahead.get(next);
    if (ready) viewer.updates.walkTo(ready);
    if (!tell) return;
    viewer.ahead.head(direction);
    if (performance.now() - sent > PATIENCE) ask();
  }

  function ask() {
    sent = performance.now();
    trigger("walk", { frame: wanted });
  }

  // Has the server show what the page does.
  function settle() {
    if (wanted !== null && wanted !== told) ask();
  }

  const walk = (steps) => go(here() + steps);

  function turn(pixels) {
    turned += pixels;
    const steps = Math.trunc(turned / NOTCH);
    turned -= steps * NOTCH;
    if (steps) walk(Math.sign(steps));
  }

  function tellSlider(frame) {
    slider.max = String(count() - 1);
    slider.value = String(frame);
    slider.setAttribute("aria-valuetext", frame + 1 + " of " + count());
  }

  // The server has another picture on show: of the same volume, or (`fresh`) of another file. Of all that were wanted
  // meanwhile only the last is asked for.
  function receive(fresh, frame) {
    sent = -Infinity;
    told = frame;
    slider.hidden = count() < 2;
    if (!fresh && !slider.hidden && wanted !== null && wanted !== told) return ask();
    wanted = null;
    if (!slider.hidden) tellSlider(state.data.image.frame);
  }

  slider.addEventListener("input", () => go(Number(slider.value)));
  for (const name of ["pointerdown", "wheel"]) slider.addEventListener(name, (event) => event.stopPropagation());
  slider.addEventListener("keydown", (event) => event.stopPropagation());

  return {
    go,
    receive,
    settle,
    turn,
    walk,
    get several() {
      return count() > 1;
    },
    // Whether the page shows what the server does.
    get settled() {
      return wanted === null || wanted === told;
    },
    // Whether what is drawn is nearer to where the walk goes than another frame is.
    isPast: (frame) => wanted !== null && Math.abs(state.data.image.frame - wanted) < Math.abs(frame - wanted),
  };
}
