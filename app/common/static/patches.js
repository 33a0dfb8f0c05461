// Maps over patches: `tiles` say where the patches lie, each {start, rows, columns, box: [x0, y0, x1, y1], overview}
// with the box in source pixels and the patches row by row from `start`.

// Mean over the chosen rows of a [rows, patches] map.
export function meanOfRows(map, rows, patches) {
  const mean = new Float32Array(patches);
  for (const row of rows) for (let j = 0; j < patches; j++) mean[j] += map[row * patches + j] / rows.length;
  return mean;
}

export const total = (values) => values.reduce((sum, value) => sum + value, 0);
export const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

// The tiles that show an area in most detail; an overview counts only where it is all there is.
export function detailedTiles(tiles) {
  const detailed = tiles.filter((tile) => !tile.overview);
  return detailed.length ? detailed : tiles;
}

// Index of the patch that shows the source pixel (x, y), or -1.
export function patchAt(tiles, x, y) {
  for (const tile of detailedTiles(tiles)) {
    const [x0, y0, x1, y1] = tile.box;
    if (x < x0 || x >= x1 || y < y0 || y >= y1) continue;
    const column = Math.floor(((x - x0) / (x1 - x0)) * tile.columns);
    const row = Math.floor(((y - y0) / (y1 - y0)) * tile.rows);
    return tile.start + row * tile.columns + column;
  }
  return -1;
}

// Where each patch of a tile lies: {patch, row, column, x, y, width, height} in source pixels.
export function* patchesOf(tile) {
  const [x0, y0, x1, y1] = tile.box;
  const width = (x1 - x0) / tile.columns;
  const height = (y1 - y0) / tile.rows;
  for (let row = 0; row < tile.rows; row++)
    for (let column = 0; column < tile.columns; column++)
      yield {
        patch: tile.start + row * tile.columns + column,
        row,
        column,
        x: x0 + column * width,
        y: y0 + row * height,
        width,
        height,
      };
}

// The sides of a tile's chosen patches that border on patches which are not: [x, y, x, y] in source pixels.
export function borderOf(tile, isChosen) {
  const chosen = (row, column) =>
    row >= 0 &&
    column >= 0 &&
    row < tile.rows &&
    column < tile.columns &&
    isChosen(tile.start + row * tile.columns + column);
  const sides = [];
  for (const { row, column, x, y, width, height } of patchesOf(tile)) {
    if (!chosen(row, column)) continue;
    const [right, below] = [x + width, y + height];
    if (!chosen(row - 1, column)) sides.push([x, y, right, y]);
    if (!chosen(row + 1, column)) sides.push([x, below, right, below]);
    if (!chosen(row, column - 1)) sides.push([x, y, x, below]);
    if (!chosen(row, column + 1)) sides.push([right, y, right, below]);
  }
  return sides;
}

// A copy of the map in which each sink takes the median of the patches around it, 0 where it has none. `sinks`: pairs
// of a patch and the patches around it, as the server found them.
export function fillSinks(values, sinks) {
  const filled = values.slice();
  for (const [sink, around] of sinks) {
    const sorted = around.map((patch) => values[patch]).sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    filled[sink] = !sorted.length ? 0 : sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
  return filled;
}
