// Lengths and regions of interest: pure numbers. A measure is {kind, from, to} with two points in source pixels, kind
// "ruler", "ellipse" or "rectangle"; `pixel` is the width and height of a source pixel in millimetres, or null.

// The length of a ruler: {length, unit}, in millimetres where the file says how large its pixels are.
export function lengthOf({ from, to }, image) {
  const [wide, high] = image.pixel || [1, 1];
  return { length: Math.hypot((to[0] - from[0]) * wide, (to[1] - from[1]) * high), unit: image.pixel ? "mm" : "px" };
}

// The area of a region of interest: {area, unit}.
export function areaOf({ kind, from, to }, image) {
  const box = Math.abs((to[0] - from[0]) * (to[1] - from[1]));
  const [wide, high] = image.pixel || [1, 1];
  return { area: box * wide * high * (kind === "ellipse" ? Math.PI / 4 : 1), unit: image.pixel ? "mm²" : "px²" };
}

// Where pixels were measured that is not in the patient.
export const planeWords = ({ plane }) => (plane ? " at the " + plane : "");

// Calls `each` with the index of every stored pixel whose middle lies in the region.
function eachInside({ kind, from, to }, image, values, each) {
  const [across, down] = [values.width / image.width, values.height / image.height];
  const [left, right] = [Math.min(from[0], to[0]) * across, Math.max(from[0], to[0]) * across];
  const [top, bottom] = [Math.min(from[1], to[1]) * down, Math.max(from[1], to[1]) * down];
  const [x0, y0] = [(left + right) / 2, (top + bottom) / 2];
  const [a, b] = [(right - left) / 2, (bottom - top) / 2];
  for (let row = Math.max(0, Math.ceil(top - 0.5)); row < Math.min(values.height, bottom - 0.5); row++)
    for (let column = Math.max(0, Math.ceil(left - 0.5)); column < Math.min(values.width, right - 0.5); column++)
      if (kind === "rectangle" || ((column + 0.5 - x0) / a) ** 2 + ((row + 0.5 - y0) / b) ** 2 <= 1)
        each(row * values.width + column);
}

// Of the stored pixels in a region: {pixels, without, channels}, for each channel {mean, deviation, least, most}, the
// standard deviation by n - 1. `without` is how many pixels have no value, which are left out.
export function statisticsOf(measure, image, values) {
  const sums = Array.from({ length: values.channels }, () => ({
    mean: 0,
    squares: 0,
    least: Infinity,
    most: -Infinity,
  }));
  let [pixels, without] = [0, 0];
  eachInside(measure, image, values, (index) => {
    const first = index * values.channels;
    const stored = values.data.subarray(first, first + values.channels);
    if (!stored.every(Number.isFinite)) {
      without++;
      return;
    }
    pixels++;
    // Welford: sums of squares of large values would lose their differences.
    sums.forEach((sum, channel) => {
      const value = stored[channel] * values.slope + values.intercept;
      const off = value - sum.mean;
      sum.mean += off / pixels;
      sum.squares += off * (value - sum.mean);
      sum.least = Math.min(sum.least, value);
      sum.most = Math.max(sum.most, value);
    });
  });
  const channels = sums.map(({ mean, squares, least, most }) => ({
    mean,
    deviation: pixels > 1 ? Math.sqrt(squares / (pixels - 1)) : NaN,
    least,
    most,
  }));
  return { pixels, without, channels: pixels ? channels : [] };
}

// Three digits, more where there are more before the point.
export function sizeWords(size) {
  if (size >= 100) return size.toFixed(0);
  if (size >= 10) return size.toFixed(1);
  // Small units, as of a diffusion map, would be rounded away.
  return size >= 1 || size === 0 ? size.toFixed(2) : String(Number(size.toPrecision(3)));
}
