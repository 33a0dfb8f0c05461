// A run as it goes: state, progress, curves and log. The value is a JSON text; see app.tune_present.run_value.
const run = element.querySelector(".run");
const part = (name) => run.querySelector("." + name);
const COLOURS = ["#0f9d8f", "#d9822b", "#7c6ee6", "#c2477f"];
const WIDTH = 320, HEIGHT = 130, LEFT = 38, BOTTOM = 16;
let data = null;

function svg(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function number(value, percent) {
  if (percent) return (100 * value).toFixed(1) + " %";
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

// Steps at which the axis of values is labelled: three round places.
function places(low, high) {
  return [low, (low + high) / 2, high];
}

function chart(figure, spec, last) {
  const points = spec.series.flatMap((one) => one.points);
  figure.hidden = points.length === 0;
  figure.dataset.points = points.length;
  if (figure.hidden) return;
  const values = points.map((point) => point[1]);
  let low = spec.percent ? 0 : Math.min(0, ...values), high = Math.max(...values);
  // Shares end at a round one, so that the labels of the axis are whole.
  if (spec.percent) high = Math.min(1, Math.max(Math.ceil(high * 10) / 10, 0.1));
  if (high <= low) high = low + 1;
  const end = Math.max(last, ...points.map((point) => point[0]), 1);
  const x = (step) => LEFT + (step / end) * (WIDTH - LEFT - 6);
  const y = (value) => 6 + (1 - (value - low) / (high - low)) * (HEIGHT - BOTTOM - 6);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spec.title });
  for (const value of places(low, high)) {
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - 6, y1: y(value), y2: y(value) }));
    picture.append(svg("text", { x: LEFT - 4, y: y(value) + 3, "text-anchor": "end" }, spec.percent ? Math.round(100 * value) + " %" : number(value)));
  }
  picture.append(svg("text", { x: LEFT, y: HEIGHT - 3 }, "0"));
  picture.append(svg("text", { x: WIDTH - 6, y: HEIGHT - 3, "text-anchor": "end" }, "step " + end));
  spec.series.forEach((one, index) => {
    if (!one.points.length) return;
    const path = one.points.map((point, place) => (place ? "L" : "M") + x(point[0]).toFixed(1) + " " + y(point[1]).toFixed(1)).join("");
    picture.append(svg("path", { class: "curve", d: path, stroke: COLOURS[index] }));
    if (one.points.length < 40) {
      for (const point of one.points) picture.append(svg("circle", { cx: x(point[0]), cy: y(point[1]), r: 2, fill: COLOURS[index] }));
    }
  });
  const hair = svg("line", { class: "hair", y1: 4, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  picture.append(hair);
  const key = document.createElement("div");
  key.className = "key";
  const fill = (step) => {
    key.replaceChildren(...spec.series.map((one, index) => {
      const span = document.createElement("span");
      const mark = document.createElement("i");
      mark.style.background = COLOURS[index];
      const before = one.points.filter((point) => step === null || point[0] <= step);
      span.append(mark, one.name + (before.length ? " " + number(before[before.length - 1][1], spec.percent) : ""));
      return span;
    }));
  };
  fill(null);
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * WIDTH;
    const step = Math.min(end, Math.max(0, Math.round(((place - LEFT) / (WIDTH - LEFT - 6)) * end)));
    hair.setAttribute("x1", x(step));
    hair.setAttribute("x2", x(step));
    hair.setAttribute("visibility", "visible");
    fill(step);
    caption.textContent = spec.title + ", up to step " + step;
  });
  picture.addEventListener("pointerleave", () => {
    hair.setAttribute("visibility", "hidden");
    fill(null);
    caption.textContent = spec.title;
  });
  const caption = document.createElement("figcaption");
  caption.textContent = spec.title;
  figure.replaceChildren(caption, picture, key);
}

function receive() {
  data = props.value ? JSON.parse(props.value) : null;
  part("empty").hidden = Boolean(data);
  part("body").hidden = !data;
  run.dataset.status = data ? data.status : "none";
  run.dataset.name = data ? data.name : "";
  run.dataset.step = data ? data.step : 0;
  run.dataset.tone = data ? data.tone : "";
  if (!data) return;
  part("state").textContent = data.state;
  part("words").textContent = data.words;
  part("left").textContent = data.left;
  run.querySelector("progress").value = Math.round(1000 * data.share);
  part("notes").replaceChildren(...data.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  for (const spec of data.charts) {
    let figure = run.querySelector(`figure[data-chart="${spec.key}"]`);
    if (!figure) {
      figure = document.createElement("figure");
      figure.dataset.chart = spec.key;
      part("charts").append(figure);
    }
    // A chart under the pointer is being read.
    if (!figure.matches(":hover") || figure.dataset.run !== data.name) chart(figure, spec, data.steps);
    figure.dataset.run = data.name;
  }
  const log = run.querySelector(".log pre");
  log.textContent = data.log || "Nothing printed yet.";
}

watch("value", receive);
receive();
