// From a weight to a colour. `scale`: {top, lut, signed, gamma, threshold, opacity}; `lut` is the colour map as 256
// times red, green, blue. Weights are multiples of what each patch would have if the same attention were spread evenly
// over the image; differences (`signed`) are shares of a word's attention.

import { placeInTable } from "../../common/static/map_picture.js";

// A weight as of an even map is not drawn; from there on the strength rises with the logarithm of the multiple, up to
// the highest on the scale, or this one where that is lower: a map that is nearly even is hardly seen.
const STRONG = 8;

// Where a value stands: its place in the colour map, 0 to 255, and how strongly it is drawn, 0 to 1. Gamma bends the
// place, not the weight; differences are laid out from the middle to both sides.
export function placeOnScale(value, scale) {
  const level = scale.top > 0 ? Math.min(1, Math.max(scale.signed ? -1 : 0, value / scale.top)) : 0;
  const bent = Math.sign(level) * Math.abs(level) ** (scale.gamma || 1);
  return {
    colour: placeInTable(scale.signed ? (1 + bent) / 2 : bent),
    strength: Math.abs(level) < scale.threshold ? 0 : strengthOf(value, level, scale),
  };
}

function strengthOf(value, level, { signed, top }) {
  if (signed) return Math.sqrt(Math.abs(level));
  return value > 1 && top > 0 ? Math.log(Math.min(value, top)) / Math.log(Math.max(STRONG, top)) : 0;
}

export const colourAt = (lut, place) => [lut[3 * place], lut[3 * place + 1], lut[3 * place + 2]];

// Steps of the table of pixels.
const LEVELS = 2047;

// The place of a value in the table of pixels.
export function pixelIndex(value, scale) {
  const level = scale.top > 0 ? value / scale.top : 0;
  return Math.round(LEVELS * Math.max(0, Math.min(1, scale.signed ? (level + 1) / 2 : level)));
}

// The scale as a table of pixels, so that a picture costs one look-up for each: the four bytes of every level from 0
// to 1 (-1 to 1 when signed).
export function pixelTable(scale) {
  const table = new Uint8ClampedArray(4 * (LEVELS + 1));
  for (let i = 0; i <= LEVELS; i++) {
    const level = scale.signed ? (2 * i) / LEVELS - 1 : i / LEVELS;
    const { colour, strength } = placeOnScale(level * scale.top, scale);
    table.set([...colourAt(scale.lut, colour), Math.round(255 * scale.opacity * strength)], 4 * i);
  }
  return new Uint32Array(table.buffer);
}
