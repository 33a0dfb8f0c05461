// Playing the frames of a film or the slices of a volume.

import { press } from "../../common/static/dom.js";

// Frames in a second where neither the file nor anybody else says so.
const USUAL = 10;

// How long a frame stays, in milliseconds: `rate` is a number of frames in a second, or "file".
export const stay = (image, rate) => (rate === "file" && image.frameTime) || 1000 / (Number(rate) || USUAL);

// When the frame after the next one is due: late frames follow at once, and are not made up for.
export const dueAfter = (due, now, time) => (now - due > time ? now + time : due + time);

export const rateWords = (frameTime) => "as in the file: " + Number((1000 / frameTime).toPrecision(3)) + "/s";

export function createCine(viewer) {
  const { element, state, stage } = viewer;
  const button = element.querySelector("[data-action=cine]");
  const rate = element.querySelector("[data-control=rate]");
  const byFile = rate.querySelector("[value=file]");
  let playing = false;
  let due = 0;

  function tick(now) {
    if (!playing) return;
    requestAnimationFrame(tick);
    const { image } = state.data;
    if (now < due || !image) return;
    const next = (image.frame + 1) % image.frames;
    const there = Boolean(viewer.ahead.get(next));
    stage.dataset.cine = there ? "plays" : "waits";
    viewer.ahead.head(1, true);
    if (!there) return;
    due = dueAfter(due, now, stay(image, rate.value));
    viewer.slices.go(next, { tell: false });
  }

  function set(on) {
    if (on === playing || (on && !viewer.slices.several)) return;
    playing = on;
    press(button, on);
    button.textContent = on ? "Pause" : "Play";
    stage.dataset.cine = on ? "plays" : "";
    due = performance.now();
    if (on) requestAnimationFrame(tick);
    else {
      viewer.ahead.head(1);
      viewer.slices.settle();
    }
  }

  // The server has another picture on show.
  function receive() {
    const { image } = state.data;
    const several = viewer.slices.several;
    if (!several) set(false);
    button.hidden = rate.closest("label").hidden = !several;
    const time = image?.frameTime;
    if (byFile.hidden === Boolean(time)) {
      byFile.hidden = byFile.disabled = !time;
      rate.value = time ? "file" : String(USUAL);
    }
    if (time) byFile.textContent = rateWords(time);
  }

  // What is done beside the picture, such as asking, is about the frame on which it stops.
  for (const name of ["pointerdown", "keydown"])
    document.addEventListener(name, (event) => playing && !element.contains(event.target) && set(false), true);
  button.addEventListener("click", () => set(!playing));

  return {
    receive,
    stop: () => set(false),
    toggle: () => set(!playing),
    get active() {
      return playing;
    },
  };
}
