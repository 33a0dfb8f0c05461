// The method in five pictures, drawn with the page's own colours.

import { make, svg } from "./dom.js";

const WIDTH = 132;
const HEIGHT = 84;
const CELL = 14;

const rect = (x, y, width, height, className, extra = {}) =>
  svg("rect", { x, y, width, height, rx: 2, class: className, ...extra });

const oval = (cx, cy, rx, ry, className) => svg("ellipse", { cx, cy, rx, ry, class: className });

const line = (x1, y1, x2, y2) => svg("line", { x1, y1, x2, y2, class: "thin" });

// Cells of a grid, those for which `strength` gives something filled as strongly.
function grid(columns, rows, left, top, strength) {
  const cells = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [x, y, much] = [left + column * CELL, top + row * CELL, strength(row, column)];
      cells.push(rect(x, y, CELL - 2, CELL - 2, "frame"));
      if (much) cells.push(rect(x, y, CELL - 2, CELL - 2, "full", { "fill-opacity": much }));
    }
  }
  return cells;
}

const HEADS = ["1 2", "3 5"];
const near = (row, column) => Math.max(0, 1 - Math.hypot(row - 2, column - 3.5) / 2.2);

const PICTURES = [
  ["Regions", "Segment Anything, or LiteMedSAM, finds structures in the image: nobody has to draw them.", () => [rect(26, 4, 80, 76, "frame"), oval(50, 42, 14, 28, "marked"), oval(82, 42, 14, 28, "marked"), oval(84, 54, 6, 6, "marked")]],
  ["Ranked for the question", "BiomedCLIP says how well each fits the question. The best ones are the weak label: where the answer should come from.", () => [86, 58, 34, 20].flatMap((long, row) => [rect(20, 8 + row * 19, 12, 12, "marked"), rect(38, 8 + row * 19, long, 12, "full", { "fill-opacity": long / 86 })])],
  ["Heads that see", "Of the model's attention heads a few look at the image much more than the others: the critical heads.", () => grid(6, 5, 25, 8, (row, column) => (HEADS.includes(row + " " + column) ? 1 : 0.08))],
  ["Attention drawn in", "While answers are learnt, a second loss moves the attention of these heads into the region.", () => [...grid(6, 5, 25, 8, near), oval(80, 42, 30, 24, "border")]],
  ["Experts by question and patch", "What is trained are small mixtures of LoRA experts in the query and key projections; the question, and each patch of the image, choose among them.", () => [...[16, 42, 68].map((y) => rect(8, y - 6, 30, 12, "frame")), ...[14, 33, 52, 71].flatMap((y, place) => [rect(92, y - 6, 32, 12, place % 2 ? "full" : "frame"), line(38, 42, 92, y)])]],
]; // prettier-ignore

export const methodPictures = () =>
  make(
    "ol",
    { className: "method" },
    ...PICTURES.map(([title, sentence, shapes]) =>
      make(
        "li",
        {},
        svg(
          "svg",
          { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true" },
          ...shapes(),
        ),
        make("div", {}, make("b", {}, title), make("p", {}, sentence)),
      ),
    ),
  );
