// Zoom, pan, keys, and the numbers under the pointer.

function zoomBy(factor, clientX, clientY) {
  const box = stage.getBoundingClientRect();
  const zoom = Math.max(1, Math.min(16, view.zoom * factor));
  const u = (clientX - box.left) / box.width - 0.5;
  const v = (clientY - box.top) / box.height - 0.5;
  const change = zoom / view.zoom;
  view = zoom === 1 ? { zoom: 1, x: 0, y: 0 } : { zoom, x: u - (u - view.x) * change, y: v - (v - view.y) * change };
  draw();
}

function resetView() {
  view = { zoom: 1, x: 0, y: 0 };
  draw();
}

stage.addEventListener("wheel", (event) => {
  if (!data.image) return;
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY * 0.0015), event.clientX, event.clientY);
}, { passive: false });
stage.addEventListener("dblclick", resetView);

let drag = null;
stage.addEventListener("pointerdown", (event) => {
  if (!data.image || view.zoom === 1 || drawing.on) return;
  drag = { x: event.clientX, y: event.clientY, view: { ...view } };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointerup", () => (drag = null));
stage.addEventListener("pointercancel", () => (drag = null));
stage.addEventListener("pointermove", (event) => {
  if (!data.image || !picture) return;
  const box = stage.getBoundingClientRect();
  if (drag) {
    view.x = drag.view.x + (event.clientX - drag.x) / box.width;
    view.y = drag.view.y + (event.clientY - drag.y) / box.height;
    draw();
    return;
  }
  const [x, y] = toSource(event.clientX, event.clientY);
  readout(x, y);
  if (!drawing.on) showTip(regionAt(x, y), event.clientX - box.left, event.clientY - box.top, box);
});
stage.addEventListener("pointerleave", () => {
  part("readout").textContent = "";
  showTip(null);
});

// Where a point of the window lies in the image, in source pixels.
function toSource(clientX, clientY) {
  const box = stage.getBoundingClientRect();
  const image = data.image;
  const scale = Math.min(box.width / image.width, box.height / image.height) * view.zoom;
  return [
    (clientX - box.left - (box.width - image.width * scale) / 2 - view.x * box.width) / scale,
    (clientY - box.top - (box.height - image.height * scale) / 2 - view.y * box.height) / scale,
  ];
}

function readout(x, y) {
  const image = data.image;
  if (x < 0 || y < 0 || x >= image.width || y >= image.height) {
    part("readout").textContent = "";
    return;
  }
  const shown = current();
  const patch = shown ? patchAt(data.result.tiles, x, y) : -1;
  const where = "x " + Math.floor(x) + ", y " + Math.floor(y);
  part("readout").textContent = patch < 0 ? where : where + " · patch " + patch + ": " + percent(shown.values[patch]);
}

stage.addEventListener("keydown", (event) => {
  if (STEPS[event.key]) step(...STEPS[event.key]);
  else if (event.key === "0") resetView();
  else if (event.key === "+" || event.key === "-") {
    const box = stage.getBoundingClientRect();
    zoomBy(event.key === "+" ? 1.25 : 0.8, box.left + box.width / 2, box.top + box.height / 2);
  } else return;
  event.preventDefault();
});

new ResizeObserver(draw).observe(stage);

