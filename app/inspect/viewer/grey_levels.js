// Grey levels for the eye only: the model has read the picture as it was opened. Levels are {centre, width} of the
// grey values that are shown from black to white.

export const AS_OPENED = { centre: 127.5, width: 255 };

const isAsOpened = ({ centre, width }) => centre === AS_OPENED.centre && width === AS_OPENED.width;

// As on a reading station: dragging to the right widens the window, upwards brightens. The way is in shares of the
// stage's width and height.
export const draggedLevels = (levels, across, down) => ({
  width: Math.max(4, Math.min(1020, levels.width * Math.exp(across * 3))),
  centre: Math.max(-127, Math.min(382, levels.centre + down * 255)),
});

// In the file's units where the picture came from a window, else in grey values of the picture.
export function levelWords(levels, window) {
  if (isAsOpened(levels)) return "";
  const [centre, width] = window || [AS_OPENED.centre, AS_OPENED.width];
  return (
    "display C " +
    Math.round(centre + ((levels.centre - 127.5) / 255) * width) +
    "  W " +
    Math.round((levels.width / 255) * width)
  );
}

// (picture, levels) -> what to draw; the last picture is kept, since it is drawn again with every change of the map.
export function createToner() {
  let last = {};
  return (picture, levels) => {
    if (isAsOpened(levels)) return picture;
    if (last.picture === picture && last.centre === levels.centre && last.width === levels.width) return last.sheet;
    // Large pictures are toned at the size in which they can be seen.
    const shrink = Math.min(1, 2048 / Math.max(picture.naturalWidth, picture.naturalHeight));
    const size = (length) => Math.max(1, Math.round(length * shrink));
    const sheet = new OffscreenCanvas(size(picture.naturalWidth), size(picture.naturalHeight));
    const context = sheet.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0, sheet.width, sheet.height);
    const pixels = context.getImageData(0, 0, sheet.width, sheet.height);
    const tone = Uint8ClampedArray.from(
      { length: 256 },
      (_, grey) => 255 * ((grey - levels.centre) / levels.width + 0.5),
    );
    for (let i = 0; i < pixels.data.length; i++) if ((i & 3) !== 3) pixels.data[i] = tone[pixels.data[i]];
    context.putImageData(pixels, 0, 0);
    last = { picture, ...levels, sheet };
    return sheet;
  };
}
