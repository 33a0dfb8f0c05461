// Other runs laid over the one on show (app.tune.runs.comparison.run_comparison): curves, and settings that differ.

import { make } from "../../common/static/dom.js";
import { fillSettings } from "../../common/static/chart_series.js";
import { answerOf } from "../../common/static/server.js";
import { drawChart } from "./run_charts.js";

// Milliseconds between two readings while the run goes on.
const PERIOD = 5000;

const nameOf = ({ title, created }) =>
  created
    ? `${title}, ${new Date(1000 * created).toLocaleString([], { dateStyle: "short", timeStyle: "medium" })}`
    : title;

export function createComparison(place, server) {
  const words = place.querySelector(".told");
  let follow = null;
  let chosen = new Set();
  let turn = 0;
  let asked = 0;

  function showChoices(choices) {
    const boxes = choices.map((run) => {
      const box = make("input", { type: "checkbox", value: run.id, checked: chosen.has(run.id) });
      box.addEventListener("change", () => {
        if (box.checked) chosen.add(run.id);
        else chosen.delete(run.id);
        ask();
      });
      return make("label", {}, box, ` ${nameOf(run)} (${run.state.toLowerCase()})`);
    });
    const there = choices.map((run) => run.id).join();
    const list = place.querySelector(".others");
    // Whoever goes through the list with the keyboard keeps their place in it.
    if (list.dataset.there !== there) list.replaceChildren(...boxes);
    list.dataset.there = there;
  }

  function show({ choices, runs, charts, settings }) {
    chosen = new Set(runs.slice(1).map((run) => run.id));
    showChoices(choices);
    const compared = runs.length > 1;
    words.textContent = choices.length ? "" : "There is no other run.";
    const figures = charts.map(({ title, percent, points, base }) => {
      const figure = make("figure");
      const series = runs.map((run, number) => ({
        name: nameOf(run),
        points: points[number],
        base: base[number] ?? undefined,
      }));
      drawChart(figure, { title, percent, series }, Math.max(...runs.map((run) => run.steps)));
      return figure;
    });
    place.querySelector(".charts").replaceChildren(...(compared ? figures : []));
    const table = place.querySelector(".settings");
    table.hidden = !compared;
    if (compared) fillSettings(table, settings, runs.map(nameOf));
    if (compared && !Object.keys(settings).length) words.textContent = "Their settings are the same.";
    place.dataset.runs = runs.length;
  }

  async function ask() {
    if (!follow || !place.open) return;
    const own = ++turn;
    asked = performance.now();
    const { visitor, run } = follow;
    const reply = await answerOf(server.compare_runs({ visitor, run, others: [...chosen] }));
    if (own !== turn) return; // a newer choice is on its way
    if (reply.error) words.textContent = reply.error;
    else show(reply);
  }

  place.addEventListener("toggle", ask);
  return {
    // Another run, or none, is on show.
    receive(next) {
      if (next?.run !== follow?.run) chosen = new Set();
      follow = next;
      ask();
    },
    // The run on show went on.
    refresh() {
      if (chosen.size && performance.now() - asked > PERIOD) ask();
    },
  };
}
