// A line chart over shares from 0 to 1.

import { make, svg } from "../../common/static/dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [300, 190, 38, 30];

const tickWords = (value) => (value >= 0 && value < 0.1 ? value.toPrecision(1) : value.toFixed(2));

// `lines`: {values, className}, one value for each share; a value that is not defined leaves a gap.
export function lineChart(title, shares, lines, axis, [least, most]) {
  const x = (share) => LEFT + share * (WIDTH - LEFT - 20);
  const y = (value) => HEIGHT - BOTTOM - ((value - least) / (most - least)) * (HEIGHT - BOTTOM - 10);
  const text = (words, attributes) => svg("text", attributes, words);
  const picture = svg("svg", { viewBox: "0 0 " + WIDTH + " " + HEIGHT, role: "img", "aria-label": title });
  for (const share of [0, 0.5, 1])
    picture.append(text(100 * share + " %", { x: x(share), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }));
  for (const value of least < 0 ? [least, 0, most] : [0, most / 2, most]) {
    picture.append(svg("line", { x1: LEFT, x2: WIDTH - 20, y1: y(value), y2: y(value), class: "rule" }));
    picture.append(text(tickWords(value), { x: LEFT - 4, y: y(value) + 4, "text-anchor": "end" }));
  }
  picture.append(text(axis, { x: (LEFT + WIDTH) / 2, y: HEIGHT - 3, "text-anchor": "middle" }));
  for (const { values, className } of lines) {
    const isThere = (i) => (values[i] ?? null) !== null;
    const path = shares.map((share, i) =>
      isThere(i) ? (isThere(i - 1) ? "L" : "M") + x(share) + " " + y(values[i]) : "",
    );
    picture.append(svg("path", { d: path.join(""), class: className }));
  }
  return make("figure", {}, make("figcaption", { textContent: title }), picture);
}
