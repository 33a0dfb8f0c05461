// The curves of a run.

import { make, svg } from "../../common/static/dom.js";
import { COLOURS } from "../../common/static/chart_series.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [320, 130, 38, 16];
// Points of a curve from which on neighbours become one: more than the pixels can tell apart.
const MOST_POINTS = 800;

function numberWords(value, percent) {
  if (percent) return (100 * value).toFixed(1) + " %";
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

// A curve with points that are new: pairs of step and value.
export function extended(points, more) {
  let all = [...points, ...more];
  while (all.length > MOST_POINTS) {
    const pairs = [];
    for (let place = 0; place < all.length; place += 2) {
      const [one, next] = [all[place], all[place + 1] || all[place]];
      pairs.push([next[0], (one[1] + next[1]) / 2]);
    }
    all = pairs;
  }
  return all;
}

// From the lowest to the highest value of the axis.
function rangeOf(values, percent) {
  const low = percent ? 0 : Math.min(0, ...values);
  let high = Math.max(...values);
  // Shares end at a round one, so that the labels of the axis are whole.
  if (percent) high = Math.min(1, Math.max(Math.ceil(high * 10) / 10, 0.1));
  return [low, high > low ? high : low + 1];
}

// Draws a chart into a figure: {title, percent, series: [{name, points, base}]}, with the run's last step at its end. A
// dashed line across is the base model's value of the series, where it is known.
export function drawChart(figure, { title, percent, series }, last) {
  const shown = series.map((one, index) => ({ ...one, colour: COLOURS[index] })).filter((one) => one.points.length);
  const points = shown.flatMap((one) => one.points);
  figure.hidden = points.length === 0;
  figure.dataset.points = points.length;
  if (figure.hidden) return;
  const known = shown.filter((one) => one.base !== undefined);
  const [low, high] = rangeOf([...points.map((point) => point[1]), ...known.map((one) => one.base)], percent);
  const end = Math.max(last, ...points.map((point) => point[0]), 1);
  const x = (step) => LEFT + (step / end) * (WIDTH - LEFT - 6);
  const y = (value) => 6 + (1 - (value - low) / (high - low)) * (HEIGHT - BOTTOM - 6);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  for (const value of [low, (low + high) / 2, high]) {
    const words = percent ? Math.round(100 * value) + " %" : numberWords(value);
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - 6, y1: y(value), y2: y(value) }));
    picture.append(svg("text", { x: LEFT - 4, y: y(value) + 3, "text-anchor": "end" }, words));
  }
  picture.append(svg("text", { x: LEFT, y: HEIGHT - 3 }, "0"));
  picture.append(svg("text", { x: WIDTH - 6, y: HEIGHT - 3, "text-anchor": "end" }, "step " + end));
  for (const one of shown) {
    const path = one.points.map(
      ([step, value], place) => (place ? "L" : "M") + x(step).toFixed(1) + " " + y(value).toFixed(1),
    );
    picture.append(svg("path", { class: "curve", d: path.join(""), stroke: one.colour }));
    if (one.base !== undefined) {
      const height = y(one.base);
      const across = { x1: LEFT, x2: WIDTH - 6, y1: height, y2: height };
      picture.append(svg("line", { class: "base", ...across, stroke: one.colour }));
    }
    if (one.points.length >= 40) continue;
    for (const [step, value] of one.points)
      picture.append(svg("circle", { cx: x(step), cy: y(value), r: 2, fill: one.colour }));
  }
  const caption = make("figcaption", {}, title);
  const key = make("div", { className: "key" });
  fillKey(key, shown, percent, Infinity);
  picture.append(svg("line", { class: "hair", y1: 4, y2: HEIGHT - BOTTOM, visibility: "hidden" }));
  readValues(picture, (share) => {
    const step =
      share === null
        ? null
        : Math.min(end, Math.max(0, Math.round(((share * WIDTH - LEFT) / (WIDTH - LEFT - 6)) * end)));
    fillKey(key, shown, percent, step ?? Infinity);
    caption.textContent = title + (step === null ? "" : ", up to step " + step);
    return step === null ? null : x(step);
  });
  figure.replaceChildren(caption, picture, key);
}

// The name of each curve with its last value up to a step, and the base model's.
function fillKey(key, series, percent, step) {
  const entries = series.map((one) => {
    const mark = make("i");
    mark.style.background = one.colour;
    const point = one.points.filter((other) => other[0] <= step).at(-1);
    const base = one.base === undefined ? "" : ` (base ${numberWords(one.base, percent)})`;
    return make("span", {}, mark, one.name + (point ? " " + numberWords(point[1], percent) : "") + base);
  });
  key.replaceChildren(...entries);
}

// Follows the pointer with the chart's hair line: `tell` gets the share of the chart's width, null where the pointer has
// gone, and gives the line's place.
function readValues(picture, tell) {
  const hair = picture.querySelector(".hair");
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const place = tell((event.clientX - box.left) / box.width);
    for (const end of ["x1", "x2"]) hair.setAttribute(end, place);
    hair.setAttribute("visibility", "visible");
  });
  picture.addEventListener("pointerleave", () => {
    hair.setAttribute("visibility", "hidden");
    tell(null);
  });
}
