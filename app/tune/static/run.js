// A run as it goes: state, progress, curves and log. The value says which run (app.tune.values.follow_value); what is
// new of it is asked for once a second while it goes on (app.tune.values.run_news), and not at all while nobody looks.
const run = element.querySelector(".run");
const part = (name) => run.querySelector("." + name);
const COLOURS = ["#0f9d8f", "#d9822b", "#7c6ee6", "#c2477f"];
const WIDTH = 320, HEIGHT = 130, LEFT = 38, BOTTOM = 16;
// Milliseconds between two questions, for a page that shows the run and for one that shows something else.
const PERIOD = 1000, AWAY = 5000;
// Points of a curve from which on neighbours become one: more than the pixels can tell apart.
const MOST_POINTS = 800;
let follow = null, at = {}, head = null, seconds = null, since = 0, points = {};
let timer = null, clock = null, asking = false, behind = new Set(), urged = 0;

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
  spec = { ...spec, series: spec.series.map((one) => ({ ...one, points: points[one.curve] || [] })) };
  drawChart(figure, { ...spec, series: spec.series.filter((one) => one.points.length) }, last);
}

function drawChart(figure, spec, last) {
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

function duration(seconds) {
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
  if (whole < 60) return whole + " s";
  return minutes < 60 ? minutes + " min " + (whole % 60) + " s" : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}

const visible = () => run.offsetParent !== null;

// How long it has been at work, which goes on between two news.
function tick() {
  if (seconds === null || !head) return void (part("spent").textContent = "");
  const now = seconds + (head.live ? (performance.now() - since) / 1000 : 0);
  part("spent").textContent = duration(now) + (head.live ? " so far" : "");
}

function extend(curve, more) {
  let all = [...(points[curve] || []), ...more];
  while (all.length > MOST_POINTS) {
    const pairs = [];
    for (let place = 0; place < all.length; place += 2) {
      const one = all[place], next = all[place + 1] || one;
      pairs.push([next[0], (one[1] + next[1]) / 2]);
    }
    all = pairs;
  }
  points[curve] = all;
}

function take(reply) {
  if (reply.whole) {
    points = {};
    behind = new Set(CHARTS);
  }
  at = reply.at;
  if (reply.head) {
    if (!head || head.steps !== reply.head.steps) behind = new Set(CHARTS);
    head = reply.head;
  }
  [seconds, since] = [reply.seconds, performance.now()];
  for (const [curve, more] of Object.entries(reply.points || {})) {
    extend(curve, more);
    for (const spec of CHARTS) if (spec.series.some((one) => one.curve === curve)) behind.add(spec);
  }
  if (reply.log !== undefined) run.querySelector(".log pre").textContent = reply.log || "Nothing printed yet.";
  if (reply.head) showHead();
  showCharts();
  tick();
  clearInterval(clock);
  clock = head.live ? setInterval(tick, PERIOD) : null;
  news.dispatchEvent(new CustomEvent("told", { detail: { ...reply, steps: head.steps } }));
}

function showHead() {
  part("empty").hidden = true;
  part("body").hidden = false;
  part("state").textContent = head.state;
  part("words").textContent = head.words;
  part("left").textContent = head.left;
  run.querySelector("progress").value = Math.round(1000 * head.share);
  const notes = part("notes");
  if (notes.dataset.text !== JSON.stringify(head.notes)) {
    notes.dataset.text = JSON.stringify(head.notes);
    notes.replaceChildren(...head.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  }
  for (const name of ["status", "name", "step", "tone", "words"]) {
    if (run.dataset[name] !== String(head[name])) run.dataset[name] = head[name];
  }
}

function showCharts() {
  if (!visible()) return; // they are drawn when somebody comes
  for (const spec of [...behind]) {
    let figure = run.querySelector(`figure[data-chart="${spec.key}"]`);
    if (!figure) {
      figure = document.createElement("figure");
      figure.dataset.chart = spec.key;
      // In their order, whichever has points first.
      const later = CHARTS.slice(CHARTS.indexOf(spec) + 1).map((other) => run.querySelector(`figure[data-chart="${other.key}"]`));
      part("charts").insertBefore(figure, later.find(Boolean) || null);
    }
    // A chart under the pointer is being read.
    if (figure.matches(":hover") && figure.dataset.run === head.name) continue;
    chart(figure, spec, head.steps);
    figure.dataset.run = head.name;
    behind.delete(spec);
  }
}

async function ask() {
  clearTimeout(timer);
  if (asking || !follow) return; // the reply that is to come asks again
  const asked = follow;
  let wait = visible() ? PERIOD : AWAY;
  if (document.visibilityState === "visible") {
    asking = true;
    // A call ends with an error, or with nothing at all where the server was started anew since.
    const reply = await server.read_run({ visitor: asked.visitor, run: asked.run, seen: at }).catch(() => null);
    asking = false;
    if (!follow) return;
    if (asked.run !== follow.run) return ask();
    run.dataset.lost = reply && !reply.error ? "" : "yes";
    part("lost").textContent = !reply ? "The server does not answer. The run does not need it." : reply.error || "";
    if (reply && !reply.error) take(reply);
    if (asked !== follow) wait = 0;
    else if (reply && reply.error) wait = AWAY;
    else if (head && JSON.stringify(head.stamp) !== JSON.stringify(follow.stamp)) {
      // Again after a while: the event is lost where the server went in that moment.
      if (performance.now() - urged > 3000) {
        urged = performance.now();
        trigger("moved", { run: follow.run });
      }
    } else if (head && !head.live && run.dataset.lost === "") return;
  }
  timer = setTimeout(ask, wait);
}

function receive() {
  const before = follow;
  follow = props.value ? JSON.parse(props.value) : null;
  if (!follow || !before || before.run !== follow.run) {
    [at, head, points, seconds] = [{}, null, {}, null];
    news.dispatchEvent(new CustomEvent("told", { detail: { whole: true, steps: 0 } }));
  }
  if (!follow) {
    part("empty").hidden = false;
    part("body").hidden = true;
    Object.assign(run.dataset, { status: "none", name: "", step: 0, tone: "", words: "" });
  }
  urged = 0;
  ask();
}

document.addEventListener("visibilitychange", ask);
new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  if (head) showCharts();
  ask();
}).observe(run);
watch("value", receive);
receive();
