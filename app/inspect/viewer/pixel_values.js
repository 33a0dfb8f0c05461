// The values of a picture's stored pixels in the file's own units: what the server sends, and what is said of them.
// Values are {data, width, height, channels, slope, intercept, unit, inverted}; a pixel that has none is no number.

import { bytesOf } from "../../common/static/base64.js";

const KINDS = {
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
};

export async function unpackValues({ kind, data, ...facts }) {
  const packed = new Blob([bytesOf(data)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return { ...facts, data: new KINDS[kind](await new Response(packed).arrayBuffer()) };
}

const valueAt = (values, index) => values.data[index] * values.slope + values.intercept;

// The values at a source pixel of the image, one for each channel; null outside.
export function valuesAt(values, image, x, y) {
  const column = Math.floor((x * values.width) / image.width);
  const row = Math.floor((y * values.height) / image.height);
  if (column < 0 || row < 0 || column >= values.width || row >= values.height) return null;
  const first = (row * values.width + column) * values.channels;
  return Array.from({ length: values.channels }, (_, channel) => valueAt(values, first + channel));
}

// With a true minus sign; whole numbers whole, others with as many digits as tell them apart.
export function numberWords(value) {
  if (!Number.isFinite(value)) return "no value";
  const size = Math.abs(value);
  const text =
    Number.isInteger(value) && size < 1e7
      ? String(size)
      : size >= 1e6 || size < 1e-3
        ? size.toExponential(2)
        : String(Number(size.toPrecision(size >= 1000 ? 6 : 4)));
  return (value < 0 ? "−" : "") + text;
}

// A pixel's value in words: "−45 HU", "grey 120", "R 1, G 2, B 3"; of bytes and where the file names no unit, grey.
export function valueWords(values, found) {
  if (found.length > 1) return found.map((value, channel) => "RGB"[channel] + " " + numberWords(value)).join(", ");
  if (!Number.isFinite(found[0])) return "no value";
  return values.unit ? numberWords(found[0]) + " " + values.unit : "value " + numberWords(found[0]);
}

export function lowest(values) {
  let least = Infinity;
  for (const stored of values.data) if (stored < least) least = stored;
  let most = -Infinity;
  if (values.slope < 0) for (const stored of values.data) if (stored > most) most = stored;
  return (values.slope < 0 ? most : least) * values.slope + values.intercept;
}

// Grey values as they look through a window, as a canvas of the stored size; null where they cannot.
export function windowed(values, centre, width) {
  if (values.channels !== 1) return null;
  const sheet = new OffscreenCanvas(values.width, values.height);
  const context = sheet.getContext("2d");
  const pixels = context.createImageData(values.width, values.height);
  const words = new Uint32Array(pixels.data.buffer);
  const step = 255 / width;
  const offset = 127.5 - centre * step;
  for (let i = 0; i < words.length; i++) {
    const value = valueAt(values, i);
    let grey = 0;
    if (Number.isFinite(value)) {
      grey = Math.max(0, Math.min(255, Math.round(value * step + offset)));
      if (values.inverted) grey = 255 - grey;
    }
    words[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  context.putImageData(pixels, 0, 0);
  return sheet;
}
