// Walking through the slices of a volume or the frames of a film.

// How far a wheel turns for one slice, in pixels: a mouse's wheel jumps further, a touch pad's moves by less.
const NOTCH = 40;
// How long a walk rests before the server is told where, in milliseconds: its answer changes the page around the
// picture, which would hold up the next step.
const REST = 250;
// How long a slice is waited for before another one is asked for all the same, in milliseconds.
const PATIENCE = 3000;

let onPage = null; // the slices of the viewer that the page has now

// Resolves once the server has on show what the page has: what asks about the picture goes after it.
export const walkEnd = () => onPage?.rest();

export function createSlices(viewer) {
  const { part, state, stage, trigger } = viewer;
  const slider = part("slices");
  let wanted = null; // asked for or drawn already, and not yet the one that the server has on show
  let told = null; // the frame that the server has on show
  let asked = null; // the frame that the server was asked for last
  let sent = -Infinity; // when that was
  let resting = 0; // the timer of a walk that rests; 0 where none does
  let waiting = []; // who waits for the server
  let turned = 0;

  const count = () => (state.data.session && state.data.image?.frames) || 1;
  const here = () => wanted ?? state.data.image.frame;
  const isSettled = () => wanted === null || wanted === told;

  // Shows a frame: at once where it is there already. The server hears of it when the walk rests; without `tell` when
  // `settle` says so.
  function go(frame, { tell = true } = {}) {
    const next = Math.max(0, Math.min(count() - 1, frame));
    if (count() < 2 || next === here()) return;
    const direction = Math.sign(next - here());
    wanted = next;
    tellSlider(next);
    rouse();
    const ready = viewer.ahead.get(next);
    if (ready) viewer.updates.walkTo(ready);
    if (!tell) return;
    if (ready) resting = setTimeout(settle, REST);
    else if (performance.now() - sent > PATIENCE) ask();
    viewer.ahead.head(direction);
  }

  function rouse() {
    clearTimeout(resting);
    resting = 0;
  }

  function ask() {
    asked = wanted;
    sent = performance.now();
    trigger("walk", { frame: wanted });
  }

  // Has the server show what the page does.
  function settle() {
    rouse();
    const comes = asked === wanted && performance.now() - sent <= PATIENCE;
    if (!isSettled() && !comes) ask();
  }

  function rest() {
    settle();
    if (isSettled()) return Promise.resolve();
    return new Promise((done) => {
      waiting.push(done);
      setTimeout(done, PATIENCE);
    });
  }

  function letGo() {
    for (const done of waiting) done();
    waiting = [];
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
    told = frame;
    slider.hidden = count() < 2;
    if (!fresh && !slider.hidden && !isSettled()) {
      if (!resting && asked !== wanted) ask();
      return;
    }
    rouse();
    sent = -Infinity;
    asked = wanted = null;
    letGo();
    if (!slider.hidden) tellSlider(state.data.image.frame);
  }

  // Pictures came ahead: the one that is waited for is shown, whatever the server is still asked for.
  function showReady() {
    const ready = wanted !== null && wanted !== state.data.image.frame && viewer.ahead.get(wanted);
    if (ready) viewer.updates.walkTo(ready);
  }

  slider.addEventListener("input", () => go(Number(slider.value)));
  for (const name of ["pointerdown", "wheel"]) slider.addEventListener(name, (event) => event.stopPropagation());
  slider.addEventListener("keydown", (event) => event.stopPropagation());
  // What is done beside the picture is about the one on show.
  for (const name of ["pointerdown", "keydown"])
    document.addEventListener(name, (event) => stage.contains(event.target) || settle(), true);

  onPage = {
    go,
    showReady,
    receive,
    rest,
    settle,
    turn,
    walk,
    get several() {
      return count() > 1;
    },
    // Whether the page shows what the server does.
    get settled() {
      return isSettled();
    },
    // The frame that the walk goes to.
    get here() {
      return here();
    },
    // Whether the frame that the walk goes to comes with what the server was asked for last.
    get isComing() {
      return asked === here();
    },
    // Whether what is drawn is nearer to where the walk goes than another frame is.
    isPast: (frame) => wanted !== null && Math.abs(state.data.image.frame - wanted) < Math.abs(frame - wanted),
  };
  return onPage;
}
