// From a weight to a colour. `scale`: {top, lut, signed, gamma, threshold, opacity}; `lut` is the colour map as 256
// times red, green, blue.

// Where a value stands: its place in the colour map, 0 to 255, and how strongly it is drawn, 0 to 1. Gamma bends the
// place, not the weight; differences are laid out from the middle to both sides.
export function placeOnScale(value, scale) {
  const level = scale.top > 0 ? Math.min(1, Math.max(scale.signed ? -1 : 0, value / scale.top)) : 0;
  const bent = Math.sign(level) * Math.abs(level) ** (scale.gamma || 1);
  return {
    colour: Math.round(scale.signed ? 127.5 + 127.5 * bent : 255 * bent),
    strength: Math.abs(level) < scale.threshold ? 0 : Math.sqrt(Math.abs(bent)),
  };
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
    // Weak attention is transparent, so that the anatomy stays readable under it; with the root of the weight, since
    // in proportion to it a widely spread map would hardly be seen.
    table.set([...colourAt(scale.lut, colour), Math.round(255 * scale.opacity * strength)], 4 * i);
  }
  return new Uint32Array(table.buffer);
}
