// A run as it goes: state, progress, curves and log. The value says which run (app.tune.runs.updates.follow_value); what is
// new of it is asked for once a second while it goes on (app.tune.runs.updates.run_news), and not at all while nobody looks.

import { openThings, tellThing } from "../../common/static/address.js";
import { make } from "../../common/static/dom.js";
import { showNoRun, showRunHead } from "../../common/static/run_head.js";
import { answerOf } from "../../common/static/server.js";
import { createAttention } from "./attention.js";
import { createComparison } from "./comparison.js";
import { showExamples } from "./examples.js";
import { showBatch } from "./first_batch.js";
import { drawChart, extended } from "./run_charts.js";

// Milliseconds between two questions, for a page that shows the run and for one that shows something else.
const PERIOD = 1000;
const AWAY = 5000;
const LOST = { error: "The server does not answer. The run does not need it.", lost: true };

// `charts`: the curves' charts (app.tune.runs.updates.charts); `colours`: the colour map of the attention maps.
export default function mount({ element, props, server, trigger, watch }, { charts, colours }) {
  const run = element.querySelector(".run");
  const part = (name) => run.querySelector("." + name);
  const attention = createAttention(element, colours);
  const comparison = createComparison(part("comparison"), server);
  let follow = null; // what the value says
  let seen = {}; // how far the news are known, as the server says it
  let head = null;
  let points = {}; // by curve
  let stale = new Set(); // charts that have to be drawn
  let timer = null;
  let asking = false;
  let urged = 0;

  const visible = () => run.offsetParent !== null;

  function take(news) {
    if (news.whole) {
      points = {};
      stale = new Set(charts);
    }
    seen = news.at;
    if (news.head) {
      const drawn = (told) => JSON.stringify(told && [told.steps, told.base]);
      if (drawn(head) !== drawn(news.head)) stale = new Set(charts);
      head = news.head;
    }
    part("spent").textContent = news.spent;
    for (const [curve, more] of Object.entries(news.points || {})) {
      points[curve] = extended(points[curve] || [], more);
      for (const chart of charts) if (chart.series.some((one) => one.curve === curve)) stale.add(chart);
    }
    if (news.log !== undefined) run.querySelector(".log pre").textContent = news.log || "Nothing printed yet.";
    for (const [name, show] of Object.entries({ batch: showBatch, examples: showExamples })) {
      if (news.whole) part(name).hidden = true;
      if (news[name]) show(part(name), news[name]);
    }
    if (news.head) showHead();
    if (news.points) comparison.refresh();
    showCharts();
    attention.receive({ ...news, steps: head.steps });
  }

  function showHead() {
    showRunHead(run, head, ["status", "name", "step", "tone", "words"]);
    const notes = part("notes");
    if (notes.dataset.text !== JSON.stringify(head.notes)) {
      notes.dataset.text = JSON.stringify(head.notes);
      notes.replaceChildren(...head.notes.map((note) => make("li", {}, note)));
    }
  }

  const figureOf = (chart) => run.querySelector(`figure[data-chart="${chart.key}"]`);

  function showCharts() {
    if (!visible()) return; // they are drawn when somebody comes
    for (const chart of [...stale]) {
      let figure = figureOf(chart);
      if (!figure) {
        figure = make("figure", { dataset: { chart: chart.key } });
        // In their order, whichever has points first.
        const after = charts.slice(charts.indexOf(chart) + 1).filter((one) => one.more === chart.more);
        const later = after.map(figureOf);
        run.querySelector(chart.more ? ".more .charts" : ".charts").insertBefore(figure, later.find(Boolean) || null);
      }
      // A chart under the pointer is being read.
      if (figure.matches(":hover") && figure.dataset.run === head.name) continue;
      const series = chart.series.map((one) => ({
        ...one,
        points: points[one.curve] || [],
        base: head.base[one.curve],
      }));
      drawChart(figure, { ...chart, series }, head.steps);
      figure.dataset.run = head.name;
      stale.delete(chart);
    }
  }

  async function ask() {
    clearTimeout(timer);
    if (asking || !follow) return; // the reply that is to come asks again
    const asked = follow;
    let wait = visible() ? PERIOD : AWAY;
    if (document.visibilityState === "visible") {
      asking = true;
      const reply = await answerOf(server.read_run({ visitor: asked.visitor, run: asked.run, seen }), LOST);
      asking = false;
      if (!follow) return;
      if (asked.run !== follow.run) {
        ask();
        return;
      }
      run.dataset.lost = reply.error ? "yes" : "";
      part("lost").textContent = reply.error || "";
      if (!reply.error) take(reply);
      if (asked !== follow) wait = 0;
      else if (reply.error && !reply.lost) wait = AWAY;
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
      [seen, head, points] = [{}, null, {}];
      part("spent").textContent = "";
      attention.receive({ whole: true, steps: 0 });
    }
    if (!follow) showNoRun(run, { step: 0, words: "" });
    urged = 0;
    tellAddress();
    comparison.receive(follow);
    ask();
  }

  // A run is named while it is looked at, not while its data or its plan is.
  const tellAddress = () => tellThing("tune", follow && visible() ? follow.run : "");

  document.addEventListener("visibilitychange", ask);
  openThings("tune", (name) => trigger("open", { run: name }));
  new IntersectionObserver((entries) => {
    tellAddress();
    if (!entries.some((entry) => entry.isIntersecting)) return;
    if (head) showCharts();
    ask();
  }).observe(run);
  watch("value", receive);
  receive();
}
