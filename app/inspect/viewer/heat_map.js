// A map of attention over the image.

import { detailedTiles } from "../../common/static/patches.js";
import { pixelIndex, pixelTable } from "./colour_scale.js";

// One tile of patches -> RGBA picture. Values are interpolated before they are coloured, so that every pixel's colour
// stands for a weight.
function tilePicture(values, tile, scale) {
  const fine = scale.smooth ? Math.max(1, Math.min(12, Math.floor(640 / Math.max(tile.rows, tile.columns)))) : 1;
  const width = tile.columns * fine;
  const height = tile.rows * fine;
  const picture = new ImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const table = pixelTable(scale);
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
      pixels[y * width + x] = table[pixelIndex(upper + (lower - upper) * (v - row), scale)];
    }
  }
  return picture;
}

// `place`: {x, y, scale} of the image's corner on the canvas and canvas pixels per source pixel; `scale` is a colour
// scale (see colour_scale.js) with `smooth` and `grid`.
export function drawHeatMap(context, values, tiles, image, place, scale) {
  context.save();
  context.beginPath();
  context.rect(place.x, place.y, image.width * place.scale, image.height * place.scale);
  context.clip();
  context.imageSmoothingEnabled = scale.smooth;
  for (const tile of detailedTiles(tiles)) {
    const picture = tilePicture(values, tile, scale);
    const sheet = new OffscreenCanvas(picture.width, picture.height);
    sheet.getContext("2d").putImageData(picture, 0, 0);
    const [x0, y0, x1, y1] = tile.box;
    const left = place.x + x0 * place.scale;
    const top = place.y + y0 * place.scale;
    context.drawImage(sheet, left, top, (x1 - x0) * place.scale, (y1 - y0) * place.scale);
    if (scale.grid) drawGrid(context, tile, left, top, place.scale);
  }
  context.restore();
}

function drawGrid(context, tile, left, top, scale) {
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
