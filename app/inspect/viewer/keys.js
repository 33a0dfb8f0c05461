// Keys, while the stage has the focus.

import { STEPS } from "./heads.js";

// Slices, where there are several; with Shift the arrows step through layers even so.
const WALKS = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 };
const ZOOMS = { "+": 1.25, "=": 1.25, "-": 0.8 };

export function listenToKeys(viewer) {
  const { element, stage, state, comparison, wipe } = viewer;

  // Puts the tool away that is in use, else forgets the place.
  function escape() {
    const tool = [viewer.cine, viewer.box, viewer.brush, viewer.levels, viewer.measures].find((one) => one.active);
    if (tool) tool.stop();
    else viewer.place.clear();
  }

  const KEYS = {
    " ": comparison.flip,
    s: () => comparison.setMode("side"),
    w: () => comparison.setMode("wipe"),
    d: () => comparison.setMode("difference"),
    a: () => comparison.setMode("one", "a"),
    b: () => comparison.setMode("one", "b"),
    c: () => viewer.heads.choose("critical"),
    m: () => viewer.mapSwitch.set(!state.display.map),
    p: viewer.cine.toggle,
    "[": () => wipe.move(-0.05),
    "]": () => wipe.move(0.05),
    0: viewer.pointer.reset,
    Escape: escape,
  };

  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !state.data.image) return;
    const { key } = event;
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1] || (/^[1-9]$/.test(key) ? key : "");
    if (viewer.measures.key(event)) event.stopPropagation();
    else if (WALKS[key] && viewer.slices.several && !event.shiftKey) viewer.slices.walk(WALKS[key]);
    else if (STEPS[key]) viewer.heads.step(STEPS[key]);
    else if (digit && viewer.windows.fit && !event.shiftKey) viewer.windows.choose(Number(digit) - 1);
    else if (digit) viewer.regionPanel.toggle(Number(digit) - 1);
    else if (ZOOMS[key]) viewer.pointer.zoomInPlace(ZOOMS[key]);
    else if (KEYS[key]) KEYS[key]();
    else return;
    event.preventDefault();
  });
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target !== stage) escape();
  });
}
