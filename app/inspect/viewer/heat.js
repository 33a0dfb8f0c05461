// Numbers to colours: half-precision maps, their colour scale, and their picture over the image.

const HALF = (() => {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[bits] = fraction ? NaN : sign * Infinity;
    else table[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return table;
})();

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// Little-endian float16 bytes in base64 -> Float32Array.
function halves(text) {
  const bytes = bytesOf(text);
  const values = new Float32Array(bytes.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = HALF[bytes[2 * i] | (bytes[2 * i + 1] << 8)];
  return values;
}

// Mean over the chosen rows of a [rows, patches] map.
function meanOfRows(map, rows, patches) {
  const mean = new Float32Array(patches);
  for (const row of rows) for (let j = 0; j < patches; j++) mean[j] += map[row * patches + j] / rows.length;
  return mean;
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);
const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

// Where a value stands on the colour scale: its place in the table, 0 to 255, and how strongly it is drawn, 0 to 1.
// Gamma bends the place, not the weight; differences are laid out from the middle to both sides.
function onScale(value, look) {
  const level = look.top > 0 ? Math.min(1, Math.max(look.signed ? -1 : 0, value / look.top)) : 0;
  const bent = Math.sign(level) * Math.abs(level) ** (look.gamma || 1);
  return { colour: Math.round(look.signed ? 127.5 + 127.5 * bent : 255 * bent), strength: Math.abs(level) < look.threshold ? 0 : Math.sqrt(Math.abs(bent)) };
}

// The scale as a table of pixels, so that a picture costs one look-up a pixel: level 0 to 1 (-1 to 1 when signed) in
// LEVELS steps -> the four bytes of a pixel.
const LEVELS = 2047;
function scaleTable(look) {
  const table = new Uint8ClampedArray(4 * (LEVELS + 1));
  for (let i = 0; i <= LEVELS; i++) {
    const level = look.signed ? (2 * i) / LEVELS - 1 : i / LEVELS;
    const { colour, strength } = onScale(level * look.top, look);
    // Weak attention is transparent, so that the anatomy stays readable under it; with the root of the weight, since
    // in proportion to it a widely spread map would hardly be seen.
    table.set([look.lut[3 * colour], look.lut[3 * colour + 1], look.lut[3 * colour + 2], Math.round(255 * look.opacity * strength)], 4 * i);
  }
  return new Uint32Array(table.buffer);
}

// One tile of patches -> RGBA picture. Values are interpolated before they are coloured, so that every
// pixel's colour stands for a weight. `look`: {top, lut, opacity, threshold, gamma, signed, smooth}.
function tilePicture(values, tile, look) {
  const fine = look.smooth ? Math.max(1, Math.min(12, Math.floor(640 / Math.max(tile.rows, tile.columns)))) : 1;
  const width = tile.columns * fine;
  const height = tile.rows * fine;
  const picture = new ImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const table = scaleTable(look);
  const factor = look.top > 0 ? 1 / look.top : 0;
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  for (let y = 0; y < height; y++) {
    const v = clamp((y + 0.5) / fine - 0.5, tile.rows - 1);
    const row = Math.floor(v);
    const here = tile.start + row * tile.columns;
    const below = tile.start + Math.min(row + 1, tile.rows - 1) * tile.columns;
    for (let x = 0; x < width; x++) {
      const u = clamp((x + 0.5) / fine - 0.5, tile.columns - 1);
      const column = Math.floor(u);
      const right = Math.min(column + 1, tile.columns - 1);
      const upper = values[here + column] + (values[here + right] - values[here + column]) * (u - column);
      const lower = values[below + column] + (values[below + right] - values[below + column]) * (u - column);
      const level = (upper + (lower - upper) * (v - row)) * factor;
      pixels[y * width + x] = table[Math.round(LEVELS * clamp(look.signed ? (level + 1) / 2 : level, 1))];
    }
  }
  return picture;
}

// Draw a map over the image. `place`: {x, y, scale} of the image's corner on the canvas and canvas pixels
// per source pixel. Tiles in detail cover the overview of the same area.
function drawHeat(context, values, tiles, image, place, look) {
  const detailed = tiles.some((tile) => !tile.overview);
  context.save();
  context.beginPath();
  context.rect(place.x, place.y, image.width * place.scale, image.height * place.scale);
  context.clip();
  context.imageSmoothingEnabled = look.smooth;
  for (const tile of tiles) {
    if (detailed && tile.overview) continue;
    const picture = tilePicture(values, tile, look);
    const sheet = new OffscreenCanvas(picture.width, picture.height);
    sheet.getContext("2d").putImageData(picture, 0, 0);
    const [x0, y0, x1, y1] = tile.box;
    const left = place.x + x0 * place.scale;
    const top = place.y + y0 * place.scale;
    context.drawImage(sheet, left, top, (x1 - x0) * place.scale, (y1 - y0) * place.scale);
    if (look.grid) gridLines(context, tile, left, top, place.scale);
  }
  context.restore();
}

function gridLines(context, tile, left, top, scale) {
  const [x0, y0, x1, y1] = tile.box;
  const width = (x1 - x0) * scale;
  const height = (y1 - y0) * scale;
  context.strokeStyle = "rgba(255, 255, 255, 0.22)";
  context.lineWidth = 1;
  context.beginPath();
  for (let column = 0; column <= tile.columns; column++) {
    const x = Math.round(left + (column * width) / tile.columns) + 0.5;
    context.moveTo(x, top);
    context.lineTo(x, top + height);
  }
  for (let row = 0; row <= tile.rows; row++) {
    const y = Math.round(top + (row * height) / tile.rows) + 0.5;
    context.moveTo(left, y);
    context.lineTo(left + width, y);
  }
  context.stroke();
}

// A copy of the map in which each sink takes the median of the patches around it that are none, from the nearest
// ring of its tile that has any: what a3tune.attention.sinks.suppress does.
function fillSinks(values, sinks, tiles) {
  const isSink = new Set(sinks);
  const filled = values.slice();
  for (const patch of sinks) {
    filled[patch] = 0;
    const tile = tiles.find(({ start, rows, columns }) => patch >= start && patch < start + rows * columns);
    if (!tile) continue;
    const row = Math.floor((patch - tile.start) / tile.columns);
    const column = (patch - tile.start) % tile.columns;
    for (let reach = 1; reach < Math.max(tile.rows, tile.columns); reach++) {
      const around = [];
      for (let r = Math.max(0, row - reach); r <= Math.min(tile.rows - 1, row + reach); r++)
        for (let c = Math.max(0, column - reach); c <= Math.min(tile.columns - 1, column + reach); c++) {
          const other = tile.start + r * tile.columns + c;
          if (!isSink.has(other)) around.push(values[other]);
        }
      if (!around.length) continue;
      around.sort((a, b) => a - b);
      const middle = around.length >> 1;
      filled[patch] = around.length % 2 ? around[middle] : (around[middle - 1] + around[middle]) / 2;
      break;
    }
  }
  return filled;
}

// Index of the patch that shows the source pixel (x, y), or -1.
function patchAt(tiles, x, y) {
  const detailed = tiles.some((tile) => !tile.overview);
  for (const tile of tiles) {
    if (detailed && tile.overview) continue;
    const [x0, y0, x1, y1] = tile.box;
    if (x < x0 || x >= x1 || y < y0 || y >= y1) continue;
    const column = Math.floor(((x - x0) / (x1 - x0)) * tile.columns);
    const row = Math.floor(((y - y0) / (y1 - y0)) * tile.rows);
    return tile.start + row * tile.columns + column;
  }
  return -1;
}

// A weight as a person reads it.
function percent(value) {
  const share = 100 * value;
  if (share === 0) return "0 %";
  if (share >= 10) return share.toFixed(0) + " %";
  if (share >= 1) return share.toFixed(1) + " %";
  if (share >= 0.01) return share.toFixed(2) + " %";
  return "< 0.01 %";
}
