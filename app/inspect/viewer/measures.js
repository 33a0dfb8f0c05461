// Rulers and regions of interest on the picture. They belong to their slice, and go with the file.

import { press } from "../../common/static/dom.js";
import { areaOf, lengthOf, planeWords, sizeWords, statisticsOf } from "./measuring.js";
import { numberWords } from "./pixel_values.js";

// Steps of the arrow keys and the size of a measure that a key makes, as shares of the picture's smaller side.
const STEP = 0.01;
const SIZE = 0.25;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const COLOUR = "#7dd3fc";

const within = ([x, y], { width, height }) => [Math.max(0, Math.min(width, x)), Math.max(0, Math.min(height, y))];

const sizeOf = (measure, image) =>
  measure.kind === "ruler" ? lengthOf(measure, image).length : areaOf(measure, image).area;

// A measure in short lines, for the picture; `found` are its statistics, where they are there.
export function shortWords(measure, image, found, unit) {
  if (measure.kind === "ruler") {
    const { length, unit: mm } = lengthOf(measure, image);
    return [sizeWords(length) + " " + mm + planeWords(image)];
  }
  const { area, unit: mm2 } = areaOf(measure, image);
  const size = sizeWords(area) + " " + mm2 + planeWords(image);
  if (found?.channels.length !== 1) return [size];
  const [{ mean, deviation }] = found.channels;
  const spread = Number.isNaN(deviation) ? "" : " ± " + sizeWords(deviation);
  return ["mean " + rounded(mean) + spread + (unit ? " " + unit : ""), size];
}

// A statistic with as many places as its size calls for.
const rounded = (value) => (value < 0 ? "−" : "") + sizeWords(Math.abs(value));

// All that is known of a measure, in a sentence.
export function longWords(measure, image, found, unit, trouble) {
  if (measure.kind === "ruler") {
    const known = image.pixel ? "by the file's pixel spacing" : "pixels as shown: the file does not tell their size";
    return "Ruler: " + shortWords(measure, image)[0] + " (" + known + ")";
  }
  const { area, unit: mm2 } = areaOf(measure, image);
  const name = measure.kind === "ellipse" ? "Ellipse" : "Rectangle";
  const size = "area " + sizeWords(area) + " " + mm2 + planeWords(image);
  if (!found) return name + ": " + size + " · " + (trouble || "reading its values …");
  if (!found.channels.length) return name + ": " + size + " · no pixel of the file has its middle and a value inside";
  const each = (tell) => found.channels.map(tell).join(" / ");
  const units = found.channels.length > 1 ? " (R / G / B)" : unit ? " " + unit : " (no unit in the file)";
  const parts = [
    "mean " + each(({ mean }) => rounded(mean)),
    "SD " + each(({ deviation }) => (Number.isNaN(deviation) ? "not defined" : sizeWords(deviation))),
    "min " + each(({ least }) => numberWords(least)),
    "max " + each(({ most }) => numberWords(most)),
  ];
  const left = found.without ? ", " + found.without + " without a value left out" : "";
  return name + ": " + parts.join(" · ") + units + " · " + size + " (" + found.pixels + " pixels" + left + ")";
}

export function createMeasures(viewer) {
  const { element, part, state, stage } = viewer;
  const buttons = [...element.querySelectorAll("[data-measure]")];
  let list = []; // each with its place and frame, and what was found in it
  let kind = ""; // of the tool in use
  let drawn = null; // that is being drawn

  const ofPicture = ({ place, frame }) => place === state.data.image.place && frame === state.data.image.frame;
  const onShow = () => (state.data.image ? list.filter(ofPicture) : []);

  function set(next) {
    if (next && !state.data.image) return;
    if (next) for (const tool of [viewer.box, viewer.brush, viewer.levels]) tool.stop();
    kind = next;
    drop(drawn);
    for (const button of buttons) press(button, button.dataset.measure === kind);
    if (kind) stage.dataset.tool = "measure";
    else if (stage.dataset.tool === "measure") stage.dataset.tool = "";
    if (kind && kind !== "ruler") viewer.values.fetch();
    viewer.draw();
  }

  function add(from, to) {
    const { image } = state.data;
    drawn = { kind, from, to, place: image.place, frame: image.frame };
    list.push(drawn);
  }

  function drop(measure) {
    list = list.filter((one) => one !== measure);
    if (measure === drawn) drawn = null;
    viewer.draw();
  }

  function move(to) {
    drawn.to = within(to, state.data.image);
    drawn.found = null;
    viewer.draw();
  }

  // A click measures nothing.
  function end() {
    const measure = drawn;
    drawn = null;
    if (measure && !(sizeOf(measure, state.data.image) > 0)) drop(measure);
    viewer.draw();
  }

  // Statistics, once the values are there.
  function found(measure) {
    const values = viewer.values.current;
    if (measure.kind !== "ruler" && !measure.found && values)
      measure.found = statisticsOf(measure, state.data.image, values);
    return measure.found;
  }

  // Both points, or with Shift the second one; Enter makes a measure, Delete takes the last one away.
  function key(event) {
    if (!kind) return false;
    const { image } = state.data;
    const side = Math.min(image.width, image.height);
    const last = onShow().at(-1);
    if (event.key === "Enter") {
      const reach = (SIZE * side) / 2;
      const [x, y] = [image.width / 2, image.height / 2];
      add([x - reach, kind === "ruler" ? y : y - reach], [x + reach, kind === "ruler" ? y : y + reach]);
      drawn = null;
    } else if ((event.key === "Delete" || event.key === "Backspace") && last) drop(last);
    else if (ARROWS[event.key] && last) {
      const by = ARROWS[event.key].map((step) => step * Math.max(1, STEP * side));
      const moved = (point) => within([point[0] + by[0], point[1] + by[1]], image);
      Object.assign(last, { to: moved(last.to), from: event.shiftKey ? last.from : moved(last.from), found: null });
    } else return false;
    viewer.draw();
    return true;
  }

  function draw(context, place, frame) {
    const all = onShow();
    const unit = viewer.values.current?.unit || "";
    const corners = all.map((measure) => cornersOf(measure, place));
    all.forEach((measure, number) => drawOutline(context, corners[number], measure.kind, place.ratio));
    // Words over all outlines, each where no other stands.
    const boxes = corners.map(boxOf);
    const taken = [];
    all.forEach((measure, number) => {
      const lines = shortWords(measure, state.data.image, found(measure), unit);
      taken.push(drawWords(context, lines, boxes[number], { frame, taken, boxes, ratio: place.ratio }));
    });
  }

  function tell() {
    const measure = drawn || onShow().at(-1);
    const unit = viewer.values.current?.unit || "";
    const words = measure
      ? longWords(measure, state.data.image, found(measure), unit, viewer.values.trouble)
      : kind
        ? "Drag over the picture, or press Enter in it. Escape puts the tool away."
        : "";
    if (part("measured").textContent !== words) part("measured").textContent = words;
    element.querySelector("[data-action=clearMeasures]").hidden = !onShow().length;
  }

  for (const button of buttons)
    button.addEventListener("click", () => set(kind === button.dataset.measure ? "" : button.dataset.measure));
  element.querySelector("[data-action=clearMeasures]").addEventListener("click", () => {
    list = list.filter((measure) => !ofPicture(measure));
    drawn = null;
    viewer.draw();
  });
  stage.addEventListener("pointerdown", (event) => {
    if (!kind || event.button) return;
    const from = within(viewer.pointer.toSource(event), state.data.image);
    add(from, from);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => drawn && move(viewer.pointer.toSource(event)));
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", () => drop(drawn));

  return {
    get active() {
      return Boolean(kind);
    },
    // What was measured on the picture on show.
    drawn: () => onShow().map((one) => ({ kind: one.kind, from: one.from, to: one.to })),
    stop: () => set(""),
    draw,
    tell,
    key,
    // Another picture is on show: those of another file go.
    receive(image) {
      if (image && list.some((measure) => measure.place !== image.place)) list = [];
      drawn = null;
    },
  };
}

// Both points of a measure on the canvas.
const cornersOf = ({ from, to }, { x, y, scale }) =>
  [from, to].map((point) => [x + point[0] * scale, y + point[1] * scale]);

// Boxes are [left, top, width, height].
const boxOf = ([[x0, y0], [x1, y1]]) => [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
const overlap = ([x, y, w, h], [u, v, wide, high]) => x < u + wide && u < x + w && y < v + high && v < y + h;

function drawOutline(context, corners, kind, ratio) {
  const [[x0, y0], [x1, y1]] = corners;
  const [left, top, width, height] = boxOf(corners);
  const path = new Path2D();
  if (kind === "rectangle") path.rect(left, top, width, height);
  else if (kind === "ellipse")
    path.ellipse(left + width / 2, top + height / 2, width / 2, height / 2, 0, 0, 2 * Math.PI);
  else {
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
    // Ticks at right angles to the ruler.
    const length = Math.hypot(x1 - x0, y1 - y0) || 1;
    const [u, v] = [(-(y1 - y0) / length) * 5 * ratio, ((x1 - x0) / length) * 5 * ratio];
    for (const [x, y] of corners) {
      path.moveTo(x - u, y - v);
      path.lineTo(x + u, y + v);
    }
  }
  context.save();
  for (const [colour, thickness] of [
    ["rgb(0 0 0 / .75)", 3.5],
    [COLOUR, 1.5],
  ]) {
    context.strokeStyle = colour;
    context.lineWidth = thickness * ratio;
    context.stroke(path);
  }
  context.restore();
}

// Where words of this width and height stand: beside their measure, under or above it, on the part of the canvas that is
// `frame`; where they would stand on other words or cross an outline, at the next of these places, and where all are
// taken, further down.
export function placeOfWords([left, top, width, height], wide, high, { frame, taken, boxes, gap }) {
  const clamp = (value, least, most) => Math.max(least, Math.min(most, value));
  const inside = ([x, y]) => [
    clamp(x, frame.x, frame.x + frame.width - wide),
    clamp(y, frame.y, frame.y + frame.height - high),
    wide,
    high,
  ];
  const beside = top + height - high / 2;
  const right = [left + width + gap, beside];
  const under = [left, top + height + gap];
  const places = [
    ...(right[0] + wide < frame.x + frame.width ? [right, under] : [under]),
    [left - gap - wide, beside],
    [left, top - gap - high],
  ].map(inside);
  const clear = places.filter((place) => !taken.some((other) => overlap(place, other)));
  const free = clear.find((place) => !boxes.some((box) => overlap(place, box)));
  if (free || clear.length) return free || clear[0];
  const [x, start] = places[0];
  const lowest = frame.y + frame.height - high;
  let y = start;
  const over = () => taken.find((other) => overlap([x, y, wide, high], other));
  for (let other = over(); other && y < lowest; other = over()) y = Math.min(lowest, other[1] + other[3]);
  return [x, y, wide, high];
}

function drawWords(context, lines, box, { ratio, ...rest }) {
  context.save();
  context.font = "600 " + 12 * ratio + "px system-ui, sans-serif";
  context.textBaseline = "middle";
  const wide = Math.max(...lines.map((line) => context.measureText(line).width)) + 6 * ratio;
  const high = 16 * ratio * lines.length;
  const place = placeOfWords(box, wide, high, { ...rest, gap: 5 * ratio });
  const [left, top] = place;
  lines.forEach((line, number) => {
    context.fillStyle = "rgb(5 7 10 / .9)";
    context.fillRect(left, top + 16 * ratio * number, context.measureText(line).width + 6 * ratio, 16 * ratio);
    context.fillStyle = COLOUR;
    context.fillText(line, left + 3 * ratio, top + 16 * ratio * (number + 0.5));
  });
  context.restore();
  return place;
}
