// Attention maps on pictures: shares of the patches as colours over the picture.

import { make } from "./dom.js";
import { borderOf, detailedTiles } from "./patches.js";

// The place in a table of 256 colours of a level of 0 to 1, as a3tune.figures.colour_tables.colour_map has it.
export const placeInTable = (level) => Math.min(255, Math.floor(256 * level));

// The picture under its map; `target`, where there is one, is outlined: the share of each patch that belongs to it.
export function paintMap(canvas, question, picture, shares, highest, table, target) {
  const scale = picture.naturalWidth / question.width;
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  for (const tile of detailedTiles(question.tiles)) {
    const small = make("canvas", { width: tile.columns, height: tile.rows });
    const pixels = new ImageData(tile.columns, tile.rows);
    for (let place = 0; place < tile.rows * tile.columns; place++) {
      const share = Math.min(1, shares[tile.start + place] / highest);
      const colour = 3 * placeInTable(share);
      pixels.data.set([table[colour], table[colour + 1], table[colour + 2], 40 + 180 * share], 4 * place);
    }
    small.getContext("2d").putImageData(pixels, 0, 0);
    const [x0, y0, x1, y1] = tile.box.map((edge) => edge * scale);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, x0, y0, x1 - x0, y1 - y0);
    if (target) drawBorder(context, tile, target, scale);
  }
}

// The border of the patches of which more than a third belongs to the target.
function drawBorder(context, tile, target, scale) {
  context.beginPath();
  for (const [x0, y0, x1, y1] of borderOf(tile, (patch) => target[patch] > 1 / 3)) {
    context.moveTo(x0 * scale, y0 * scale);
    context.lineTo(x1 * scale, y1 * scale);
  }
  for (const [colour, width] of [
    ["rgb(0 0 0 / .7)", 3],
    ["#ffffff", 1.4],
  ]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
}
