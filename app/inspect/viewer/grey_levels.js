// Grey levels for the eye only: the model has read the picture as it was opened. Levels are {centre, width} of the
// grey values that are shown from black to white, or {preset: {name, centre, width}}, a window in the file's units.

import { windowed } from "./pixel_values.js";

export const AS_OPENED = { centre: 127.5, width: 255 };

// Levels in grey values of the picture that was made with this window; a preset waits for the file's values, since the
// picture holds nothing of what lies outside its window.
export function inGrey(levels, window, values) {
  const { preset } = levels;
  if (!preset) return levels;
  if (!values || !window) return { ...AS_OPENED, waits: preset.name };
  const [centre, width] = window;
  return {
    centre: 127.5 + ((preset.centre - centre) / width) * 255,
    width: (preset.width / width) * 255,
    name: preset.name,
  };
}

export const isAsOpened = ({ centre, width }) => centre === AS_OPENED.centre && width === AS_OPENED.width;

// As on a reading station: dragging to the right widens the window, upwards brightens. The way is in shares of the
// stage's width and height.
export const draggedLevels = (levels, across, down) => ({
  width: Math.max(
    Math.min(4, levels.width),
    Math.min(Math.max(1020, levels.width), levels.width * Math.exp(across * 3)),
  ),
  centre: Math.max(Math.min(-127, levels.centre), Math.min(Math.max(382, levels.centre), levels.centre + down * 255)),
});

// In the file's units where the picture came from a window, else in grey values of the picture.
export function levelWords(levels, window) {
  if (levels.waits) return "reading values for the window “" + levels.waits + "” …";
  if (isAsOpened(levels)) return "";
  const [centre, width] = window || [AS_OPENED.centre, AS_OPENED.width];
  return (
    (levels.name || "display") +
    " C " +
    Math.round(centre + ((levels.centre - 127.5) / 255) * width) +
    "  W " +
    Math.round((levels.width / 255) * width)
  );
}

// (picture, levels, window, values) -> what to draw; the last picture is kept, since it is drawn again with every change
// of the map. It comes from the file's values where they are there, else from the picture.
export function createToner() {
  let last = {};
  return (picture, levels, window, values) => {
    if (isAsOpened(levels)) return picture;
    const same = last.picture === picture && last.values === values;
    if (same && last.centre === levels.centre && last.width === levels.width) return last.sheet;
    if (window && values) {
      const [centre, width] = window;
      const drawn = windowed(values, centre + (levels.centre / 255 - 0.5) * width, (levels.width / 255) * width);
      if (drawn) {
        last = { picture, values, ...levels, sheet: drawn };
        return drawn;
      }
    }
    // Large pictures are toned at the size in which they can be seen.
    const shrink = Math.min(1, 2048 / Math.max(picture.width, picture.height));
    const size = (length) => Math.max(1, Math.round(length * shrink));
    const sheet = new OffscreenCanvas(size(picture.width), size(picture.height));
    const context = sheet.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0, sheet.width, sheet.height);
    const pixels = context.getImageData(0, 0, sheet.width, sheet.height);
    const tone = Uint8ClampedArray.from(
      { length: 256 },
      (_, grey) => 255 * ((grey - levels.centre) / levels.width + 0.5),
    );
    for (let i = 0; i < pixels.data.length; i++) if ((i & 3) !== 3) pixels.data[i] = tone[pixels.data[i]];
    context.putImageData(pixels, 0, 0);
    last = { picture, values, ...levels, sheet };
    return sheet;
  };
}
