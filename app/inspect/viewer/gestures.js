// Zoom, pan, grey levels, keys, and the numbers under the pointer.

function zoomBy(factor, clientX, clientY) {
  const frame = frameAt(clientX);
  const zoom = Math.max(1, Math.min(16, view.zoom * factor));
  const u = (clientX - frame.left) / frame.width - 0.5;
  const v = (clientY - frame.top) / frame.height - 0.5;
  const change = zoom / view.zoom;
  view = zoom === 1 ? { zoom: 1, x: 0, y: 0 } : { zoom, x: u - (u - view.x) * change, y: v - (v - view.y) * change };
  draw();
}

function resetView() {
  view = { zoom: 1, x: 0, y: 0 };
  levels = { centre: 127.5, width: 255 };
  draw();
}

// The pane under a point, in pixels of the window.
function frameAt(clientX) {
  const box = stage.getBoundingClientRect();
  const side = comparing() && pair.mode === "side";
  const right = side && clientX - box.left > box.width / 2;
  return { left: box.left + (right ? box.width / 2 : 0), top: box.top, width: side ? box.width / 2 : box.width, height: box.height, right };
}

// Where a point of the window lies in the image, in source pixels.
function toSource(clientX, clientY) {
  const frame = frameAt(clientX);
  const image = data.image;
  const scale = Math.min(frame.width / image.width, frame.height / image.height) * view.zoom;
  return [
    (clientX - frame.left - (frame.width - image.width * scale) / 2 - view.x * frame.width) / scale,
    (clientY - frame.top - (frame.height - image.height * scale) / 2 - view.y * frame.height) / scale,
  ];
}

// Whose map lies under a point.
function sideAt(clientX) {
  if (!comparing()) return front();
  const box = stage.getBoundingClientRect();
  const share = (clientX - box.left) / box.width;
  if (pair.mode === "difference") return null;
  return share > (pair.mode === "wipe" ? pair.wipe : 0.5) ? sideB() : sideA();
}

stage.addEventListener("wheel", (event) => {
  if (!data.image) return;
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY * 0.0015), event.clientX, event.clientY);
}, { passive: false });
stage.addEventListener("dblclick", resetView);
stage.addEventListener("contextmenu", (event) => event.preventDefault());

const levelsButton = element.querySelector("[data-action=levels]");
let levelling = false;
function setLevelling(on) {
  levelling = on;
  if (on) {
    stopDrawing();
    setBrush(false);
    stage.dataset.tool = "levels";
  } else if (stage.dataset.tool === "levels") stage.dataset.tool = "";
  levelsButton.setAttribute("aria-pressed", String(on));
}
levelsButton.addEventListener("click", () => setLevelling(!levelling));

let drag = null;
const fingers = new Map();
stage.addEventListener("pointerdown", (event) => {
  if (!data.image || !picture) return;
  fingers.set(event.pointerId, event);
  if (drawing.on || brush.on) return;
  const grey = event.button === 2 || (levelling && event.button === 0);
  drag = { id: event.pointerId, x: event.clientX, y: event.clientY, view: { ...view }, levels: { ...levels }, grey, moved: false };
  stage.setPointerCapture(event.pointerId);
});
for (const name of ["pointerup", "pointercancel"])
  stage.addEventListener(name, (event) => {
    fingers.delete(event.pointerId);
    const over = drag;
    drag = null;
    if (!over || over.moved || over.grey || name === "pointercancel" || !data.result) return;
    // A click, not a drag: the region there is pointed out, or nothing any more.
    const row = regionAt(...toSource(event.clientX, event.clientY));
    if (row) focusRegion(row);
    else clearFocus();
  });
stage.addEventListener("pointermove", (event) => {
  if (!data.image || !picture) return;
  const box = stage.getBoundingClientRect();
  if (fingers.size === 2 && fingers.has(event.pointerId)) {
    // Two fingers: pinch.
    const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    const before = fingers.get(event.pointerId);
    const reach = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
    fingers.set(event.pointerId, event);
    drag = null;
    if (reach(before) > 0) zoomBy(reach(event) / reach(before), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
    return;
  }
  if (drag) {
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    drag.moved = drag.moved || Math.hypot(dx, dy) > 3;
    if (!drag.moved) return;
    if (drag.grey) {
      // As on a reading station: to the right widens the window, upwards brightens.
      levels = { width: Math.max(4, Math.min(1020, drag.levels.width * Math.exp((dx / box.width) * 3))), centre: Math.max(-127, Math.min(382, drag.levels.centre + (dy / box.height) * 255)) };
    } else if (view.zoom > 1) {
      const frame = frameAt(drag.x);
      view.x = drag.view.x + dx / frame.width;
      view.y = drag.view.y + dy / frame.height;
    }
    draw();
    return;
  }
  const [x, y] = toSource(event.clientX, event.clientY);
  readout(x, y, event.clientX);
  if (!drawing.on && !brush.on) showTip(regionAt(x, y), event.clientX - box.left, event.clientY - box.top, box);
});
stage.addEventListener("pointerleave", () => {
  part("readout").textContent = "";
  showTip(null);
});

function readout(x, y, clientX) {
  const image = data.image;
  if (x < 0 || y < 0 || x >= image.width || y >= image.height) {
    part("readout").textContent = "";
    return;
  }
  const where = "x " + Math.floor(x) + ", y " + Math.floor(y);
  const one = views.length ? sideAt(clientX) : null;
  const shown = one ? mapOf(one) : views.length ? difference() : {};
  const patch = shown.values ? patchAt(front().tiles, x, y) : -1;
  const value = patch < 0 ? 0 : shown.values[patch];
  const words = value < 0 ? "−" + percent(-value) : percent(value);
  const expert = one?.experts?.first && experts.on && patch >= 0 ? " · expert " + one.experts.first[experts.layer * one.patches + patch] : "";
  part("readout").textContent = patch < 0 ? where : where + " · patch " + patch + ": " + words + expert;
}

const KEYS = {
  " ": flip,
  s: () => setMode("side"),
  w: () => setMode("wipe"),
  d: () => setMode("difference"),
  a: () => setMode("one", "a"),
  b: () => setMode("one", "b"),
  c: () => chooseHeads("critical"),
  m: () => {
    look.map = !look.map;
    draw();
  },
  "[": () => setWipe(pair.wipe - 0.05),
  "]": () => setWipe(pair.wipe + 0.05),
  0: resetView,
  Escape: () => {
    if (drawing.on) stopDrawing();
    else if (brush.on) setBrush(false);
    else if (levelling) setLevelling(false);
    else clearFocus();
  },
};

stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !data.image) return;
  const zoom = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
  if (STEPS[event.key]) step(...STEPS[event.key]);
  else if (/^[1-9]$/.test(event.key)) toggleRegion(Number(event.key) - 1);
  else if (zoom) {
    const box = stage.getBoundingClientRect();
    zoomBy(zoom, box.left + frameAt(box.left).width / 2, box.top + box.height / 2);
  } else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
});

new ResizeObserver(draw).observe(stage);
