// Where things stand on the stage. Frames are {x, y, width, height}; `zoom` is {factor, x, y} with the shift in widths
// and heights of a frame; a placement is {x, y, scale} of the image's corner and of its pixels.

export const WHOLE = { factor: 1, x: 0, y: 0 };
const MOST_ZOOM = 16;
// Between a pane and the one under it, in pixels of the window: room for the lower one's name.
const BETWEEN = 24;

// Two panes stand one above the other on a stage that is taller than wide, as on a phone.
export const isStacked = (mode, width, height) => mode === "side" && height > width;

const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

// The panes of a stage: `side` "a" or "b" ("front" where one is on show), the frame that the image is laid into, and
// the part of the stage that the pane may draw on. Both sides of a wipe have the whole stage and share its area. `room`
// is how much of a pane stays free around its frame, in the same pixels as width and height.
export function panesOf(mode, width, height, wipe, ratio, room = 0) {
  return panesOfStage(mode, width, height, wipe, ratio).map((pane) => ({ ...pane, frame: inside(pane.frame, room) }));
}

const inside = ({ x, y, width, height }, room) => ({
  x: x + room,
  y: y + room,
  width: Math.max(1, width - 2 * room),
  height: Math.max(1, height - 2 * room),
});

function panesOfStage(mode, width, height, wipe, ratio) {
  const frame = (x, wide) => ({ x, y: 0, width: wide, height });
  const whole = frame(0, width);
  if (isStacked(mode, width, height)) {
    const half = Math.floor((height - BETWEEN * ratio) / 2);
    const [above, below] = [0, height - half].map((y) => ({ x: 0, y, width, height: half }));
    return [
      { side: "a", frame: above, clip: above },
      { side: "b", frame: below, clip: below },
    ];
  }
  if (mode === "side") {
    const half = Math.floor(width / 2) - ratio;
    const right = frame(width - half, half);
    return [
      { side: "a", frame: frame(0, half), clip: frame(0, half) },
      { side: "b", frame: right, clip: right },
    ];
  }
  if (mode === "wipe") {
    const edge = Math.round(wipe * width);
    return [
      { side: "a", frame: whole, clip: frame(0, edge) },
      { side: "b", frame: whole, clip: frame(edge, width - edge) },
    ];
  }
  return [
    { side: mode === "difference" ? "b" : "front", frame: whole, clip: whole, difference: mode === "difference" },
  ];
}

// The pane's frame under a point of the window, in pixels of the window, with `room` as above.
export function frameAt(mode, box, clientX, clientY, room = 0) {
  if (mode !== "side") return inside({ x: box.left, y: box.top, width: box.width, height: box.height }, room);
  if (isStacked(mode, box.width, box.height)) {
    const height = (box.height - BETWEEN) / 2;
    const y = box.top + (clientY - box.top > box.height / 2 ? box.height - height : 0);
    return inside({ x: box.left, y, width: box.width, height }, room);
  }
  const half = box.width / 2;
  const x = box.left + (clientX - box.left > half ? half : 0);
  return inside({ x, y: box.top, width: half, height: box.height }, room);
}

// Whose map lies under a point of the window; null where it is nobody's alone.
export function sideAt(mode, box, clientX, clientY, wipe) {
  if (mode === "difference") return null;
  if (mode === "one") return "front";
  if (isStacked(mode, box.width, box.height)) return clientY - box.top > box.height / 2 ? "b" : "a";
  return clientX - box.left > (mode === "wipe" ? wipe : 0.5) * box.width ? "b" : "a";
}

export const wipeShare = (box, clientX) => clamp((clientX - box.left) / box.width, 0, 1);

export function placementIn(frame, image, zoom) {
  const scale = Math.min(frame.width / image.width, frame.height / image.height) * zoom.factor;
  return {
    scale,
    x: frame.x + (frame.width - image.width * scale) / 2 + zoom.x * frame.width,
    y: frame.y + (frame.height - image.height * scale) / 2 + zoom.y * frame.height,
  };
}

// The source pixel under a point.
export function sourcePoint(frame, image, zoom, x, y) {
  const place = placementIn(frame, image, zoom);
  return [(x - place.x) / place.scale, (y - place.y) / place.scale];
}

// Zoomed by a factor about a point of the frame, which stays where it is.
export function zoomedAt(zoom, by, frame, x, y) {
  const factor = clamp(zoom.factor * by, 1, MOST_ZOOM);
  if (factor === 1) return WHOLE;
  const u = (x - frame.x) / frame.width - 0.5;
  const v = (y - frame.y) / frame.height - 0.5;
  const change = factor / zoom.factor;
  return { factor, x: u - (u - zoom.x) * change, y: v - (v - zoom.y) * change };
}

// The box of whole source pixels between two points, cut to the image, as [x, y, width, height].
export function boxBetween(from, to, { width, height }) {
  const x = clamp(Math.floor(Math.min(from[0], to[0])), 0, width);
  const y = clamp(Math.floor(Math.min(from[1], to[1])), 0, height);
  const right = clamp(Math.ceil(Math.max(from[0], to[0])), 0, width);
  return [x, y, right - x, clamp(Math.ceil(Math.max(from[1], to[1])), 0, height) - y];
}
