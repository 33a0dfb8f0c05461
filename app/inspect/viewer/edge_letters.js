// Letters at the picture's edges, which say how it lies in the patient; only where the file says so.

// Room for letters around the picture, in pixels of the window.
export const ROOM = 17;

// How much room a picture needs on each side.
export const roomFor = (image) => (image?.edges ? ROOM : 0);

// Where the middle of each letter stands: beside the picture, and beside its frame where the picture reaches beyond it.
// `frame` and `place` as in layout.js, `room` (around the frame) in the same pixels.
export function lettersAt(edges, frame, image, place, room) {
  const half = room / 2;
  const span = (start, length, from, reach) => {
    const [low, high] = [Math.max(start, from), Math.min(start + length, from + reach)];
    return { low: low - half, high: high + half, middle: (low + high) / 2 };
  };
  const across = span(frame.x, frame.width, place.x, image.width * place.scale);
  const down = span(frame.y, frame.height, place.y, image.height * place.scale);
  return [
    [edges.left, across.low, down.middle],
    [edges.right, across.high, down.middle],
    [edges.top, across.middle, down.low],
    [edges.bottom, across.middle, down.high],
  ];
}

export function drawLetters(context, edges, frame, image, place) {
  const { ratio } = place;
  context.save();
  context.font = "600 " + 12.5 * ratio + "px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = "#ffd166";
  for (const [letters, x, y] of lettersAt(edges, frame, image, place, ROOM * ratio)) {
    context.fillText(letters, x, y + 0.5 * ratio, ROOM * ratio);
  }
  context.restore();
}
