// What pointers do on the stage: zoom, pan, grey levels, a click on a region, and the numbers under the pointer.

import { press } from "../../common/static/dom.js";
import { multiple, signedPercent } from "../../common/static/format.js";
import { patchAt } from "../../common/static/patches.js";
import { roomFor } from "./edge_letters.js";
import { AS_OPENED, draggedLevels, inGrey } from "./grey_levels.js";
import { WHOLE, frameAt, sideAt, sourcePoint, zoomedAt } from "./layout.js";
import { valueWords, valuesAt } from "./pixel_values.js";
import { keepBarClear } from "./scale_bar.js";

// Pixels that a pointer may move and still have clicked.
const STILL = 3;
// How far a finger moves for one slice, in pixels.
const SLICE = 14;

export function createPointerGestures(viewer) {
  const { part, state, stage, canvas, draw } = viewer;
  const fingers = new Map();
  let drag = null;

  let last = null; // where the pointer was last, while it is on the stage

  const frameUnder = (clientX, clientY) =>
    frameAt(state.mode, canvas.getBoundingClientRect(), clientX, clientY, roomFor(state.data.image));
  // A tool that draws has the first button and one finger.
  const drawing = () => [viewer.box, viewer.brush, viewer.measures].some((tool) => tool.active);
  const toSource = ({ clientX, clientY }) =>
    sourcePoint(frameUnder(clientX, clientY), state.data.image, state.zoom, clientX, clientY);

  function zoomBy(factor, clientX, clientY) {
    state.zoom = zoomedAt(state.zoom, factor, frameUnder(clientX, clientY), clientX, clientY);
    draw();
  }

  // About the middle of the first pane.
  function zoomInPlace(factor) {
    const box = canvas.getBoundingClientRect();
    const { x, y, width, height } = frameUnder(box.left, box.top);
    zoomBy(factor, x + width / 2, y + height / 2);
  }

  function fit() {
    state.zoom = WHOLE;
    draw();
  }

  function reset() {
    state.zoom = WHOLE;
    state.levels = AS_OPENED;
    draw();
  }

  // Two fingers zoom by as much as they move apart.
  function pinch(event) {
    const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    const reach = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
    const before = reach(fingers.get(event.pointerId));
    fingers.set(event.pointerId, event);
    drag = null;
    if (before > 0)
      zoomBy(reach(event) / before, (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
  }

  function dragTo(event) {
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    drag.moved = drag.moved || Math.hypot(dx, dy) > STILL;
    if (!drag.moved) return;
    if (drag.walked !== undefined) {
      const steps = Math.trunc(dy / SLICE) - drag.walked;
      drag.walked += steps;
      if (steps) viewer.slices.walk(steps);
      return;
    }
    if (drag.grey) {
      const box = stage.getBoundingClientRect();
      viewer.values.fetch();
      state.levels = draggedLevels(drag.levels, dx / box.width, dy / box.height);
    } else if (state.zoom.factor > 1) {
      const frame = frameUnder(drag.x, drag.y);
      state.zoom = { ...state.zoom, x: drag.zoom.x + dx / frame.width, y: drag.zoom.y + dy / frame.height };
    }
    draw();
  }

  function tellReadout(words) {
    part("readout").textContent = words;
    keepBarClear(part);
  }

  function showReadout(x, y, { clientX, clientY }) {
    const { image } = state.data;
    if (x < 0 || y < 0 || x >= image.width || y >= image.height) {
      tellReadout("");
      return;
    }
    const box = canvas.getBoundingClientRect();
    const has = state.views.length > 0;
    const side = has && sideAt(state.mode, box, clientX, clientY, state.pair.wipe);
    const view = side ? state.side(side) : null;
    const shown = view ? state.mapOf(view) : has ? state.difference() : {};
    const patch = shown.values ? patchAt(state.front.tiles, x, y) : -1;
    const where = "x " + Math.floor(x) + ", y " + Math.floor(y);
    const times = shown.even ? ", " + multiple(shown.values[patch] / shown.even) : "";
    const words = patch < 0 ? "" : " · patch " + patch + ": " + signedPercent(shown.values[patch]) + times;
    const expert = view && patch >= 0 ? viewer.experts.patchWords(view, patch) : "";
    tellReadout(where + fileValue(x, y) + words + expert);
  }

  // The file's own value there, whatever window it is looked at through.
  function fileValue(x, y) {
    const values = viewer.values.current;
    const found = values && valuesAt(values, state.data.image, x, y);
    if (!values) viewer.values.want();
    return found ? " · " + valueWords(values, found) : "";
  }

  // Tells of the place under the pointer once more, as something else may be there now.
  function tell() {
    if (!last || !state.shownPicture) return;
    const [x, y] = toSource(last);
    showReadout(x, y, last);
  }

  const wheel = (event) => {
    if (!state.data.image) return;
    event.preventDefault();
    if (viewer.slices.several && !event.ctrlKey && !event.metaKey) return viewer.slices.turn(event.deltaY);
    zoomBy(Math.exp(-event.deltaY * 0.0015), event.clientX, event.clientY);
  };
  stage.addEventListener("wheel", wheel, { passive: false });
  stage.addEventListener("dblclick", fit);
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("pointerdown", (event) => {
    if (!state.shownPicture) return;
    fingers.set(event.pointerId, event);
    if (drawing()) return;
    const grey = event.button === 2 || (viewer.levels.active && event.button === 0);
    const levels = inGrey(state.levels, state.data.image.window, viewer.values.current);
    drag = { x: event.clientX, y: event.clientY, zoom: state.zoom, levels, grey, moved: false };
    // One finger walks through slices; it pans an enlarged picture, and scrolls the page from all that has no slices.
    const walks = event.pointerType === "touch" && viewer.slices.several && state.zoom.factor === 1 && !grey;
    if (walks) drag.walked = 0;
    stage.setPointerCapture(event.pointerId);
  });
  for (const name of ["pointerup", "pointercancel"])
    stage.addEventListener(name, (event) => {
      fingers.delete(event.pointerId);
      const over = drag;
      drag = null;
      if (!over || over.moved || over.grey || name === "pointercancel" || !state.data.result) return;
      const region = viewer.outlines.at(...toSource(event));
      if (region) viewer.place.toggleRegion(region);
      else viewer.place.clear();
    });
  stage.addEventListener("pointermove", (event) => {
    if (!state.shownPicture) return;
    if (fingers.size === 2 && fingers.has(event.pointerId)) return pinch(event);
    if (drag) return dragTo(event);
    const [x, y] = toSource(event);
    last = event;
    tell();
    if (drawing()) return;
    const box = stage.getBoundingClientRect();
    viewer.outlines.showTip(viewer.outlines.at(x, y), event.clientX - box.left, event.clientY - box.top, box);
  });
  stage.addEventListener("pointerleave", () => {
    last = null;
    tellReadout("");
    viewer.outlines.showTip(null);
  });

  return { toSource, tell, zoomInPlace, reset };
}

// The tool that makes the first mouse button change grey levels, as the second does at any time.
export function createLevelsTool(viewer) {
  const { element, stage } = viewer;
  const button = element.querySelector("[data-action=levels]");
  let active = false;

  function set(on) {
    active = on;
    if (on) {
      viewer.box.stop();
      viewer.brush.stop();
      viewer.measures.stop();
      stage.dataset.tool = "levels";
    } else if (stage.dataset.tool === "levels") stage.dataset.tool = "";
    press(button, on);
  }

  button.addEventListener("click", () => set(!active));
  return {
    get active() {
      return active;
    },
    stop: () => set(false),
  };
}
