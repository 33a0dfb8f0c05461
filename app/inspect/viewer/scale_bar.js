// A bar of a round number of millimetres, where the file says how large its pixels are.

// The longest of 1, 2 and 5 times a power of ten that fits into so many pixels, in millimetres; 0 where none does.
export function roundLength(millimetresPerPixel, most) {
  const room = millimetresPerPixel * most;
  if (!(room > 0)) return 0;
  const power = 10 ** Math.floor(Math.log10(room));
  return [5, 2, 1].map((step) => step * power).find((length) => length <= room);
}

// `scale`: pixels of the window per pixel of the image.
export function showScaleBar(bar, image, scale) {
  bar.hidden = !image.pixel;
  if (bar.hidden) return;
  const perPixel = image.pixel[0] / scale;
  const length = roundLength(perPixel, 140);
  bar.style.setProperty("--length", length / perPixel + "px");
  bar.textContent = Number(length.toPrecision(1)) + " mm";
  bar.title = image.plane ? "Measured at the " + image.plane + ": what is shown is smaller" : "";
}

// The words under the pointer have what those at the right leave them. The bar gives way to words that reach it: half a
// bar would be a wrong length.
export function keepBarClear(part) {
  part("readout").style.maxWidth = `calc(100% - ${part("zoom").offsetWidth}px)`;
  const [bar, ...words] = ["scaleBar", "readout", "zoom"].map((name) => part(name).getBoundingClientRect());
  const covered = words.some((box) => box.width && box.left < bar.right && box.right > bar.left);
  part("scaleBar").style.visibility = covered ? "hidden" : "";
}
