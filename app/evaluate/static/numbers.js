// Tables and charts of a report's numbers (app.evaluate.results.results_value).

import { make, svg, tableRow } from "../../common/static/dom.js";

const [WIDTH, LEFT, RIGHT, ROW] = [760, 190, 20, 26];

export const keyOf = (metric) => metric.name + "|" + metric.mode;
const finite = (value) => typeof value === "number";

// How numbers are shown (a3tune.evaluation.presentation): `titles` by name, the `plain` ones, which are no shares of
// one, and the systems' `colours`.
export function createNumbers({ titles, plain, colours }) {
  const nameOf = (metric) => titles[metric.name] || metric.name.replaceAll("_", " ");

  const scaleOf = (name) => (plain.includes(name) ? 1 : 100);

  function wordsOf(value, name) {
    if (!finite(value)) return "";
    return plain.includes(name) ? value.toFixed(2) : (100 * value).toFixed(1) + " %";
  }

  function intervalWords({ value, low, high }, name) {
    if (!finite(value)) return "";
    const scaled = (end) => (scaleOf(name) * end).toFixed(plain.includes(name) ? 2 : 1);
    return wordsOf(value, name) + (finite(low) ? ` (${scaled(low)} to ${scaled(high)})` : "");
  }

  // The numbers of all questions: a row for each, a column for each system.
  function fillNumbers(table, { metrics, systems }) {
    const overall = metrics.filter((metric) => !metric.group);
    const keys = [...new Set(overall.map(keyOf))];
    const rows = keys.map((key) => {
      const found = new Map(overall.filter((metric) => keyOf(metric) === key).map((metric) => [metric.system, metric]));
      const [any] = found.values();
      const cells = systems.map((system) => {
        const metric = found.get(system);
        if (!metric) return make("td", {}, "–");
        const told = `${metric.interval.questions} questions about ${metric.interval.images} images; ${metric.normalisation}`;
        return make(
          "td",
          { title: told, dataset: { value: metric.interval.value } },
          intervalWords(metric.interval, any.name),
        );
      });
      const head = make(
        "th",
        { scope: "row", title: any.normalisation },
        nameOf(any) + " ",
        make("small", {}, any.mode),
      );
      return make("tr", { dataset: { metric: key } }, head, ...cells);
    });
    const head = make("tr", {}, make("td"), ...systems.map((system) => make("th", { scope: "col" }, system)));
    table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  }

  // The same over the runs of each recipe, apart from intervals over images: a row for each, a column for each recipe.
  function fillSpreads(table, seeds) {
    const recipes = [...new Map(seeds.map(({ recipe, systems }) => [recipe, systems]))];
    const rows = [...new Map(seeds.map((one) => [keyOf(one), one]))].map(([key, any]) => {
      const cells = recipes.map(([recipe]) => {
        const found = seeds.find((one) => one.recipe === recipe && keyOf(one) === key);
        if (!found) return make("td", {}, "–");
        return make(
          "td",
          {},
          `${wordsOf(found.spread.mean, found.name)} ± ${wordsOf(found.spread.deviation, found.name)}`,
        );
      });
      return make("tr", {}, make("th", { scope: "row" }, nameOf(any) + " ", make("small", {}, any.mode)), ...cells);
    });
    const heads = recipes.map(([recipe, systems]) =>
      make("th", { scope: "col" }, `${recipe} (${systems.length} seeds)`),
    );
    table.replaceChildren(make("thead", {}, make("tr", {}, make("td"), ...heads)), make("tbody", {}, ...rows));
  }

  function fillVerdicts(list, comparisons, { hallucination = [], controls = [] } = {}) {
    const lines = comparisons.map(({ before, after, name, mode, difference, p_holm, verdict, told }) => {
      const p = finite(p_holm) ? ` (p ${p_holm.toPrecision(2)}, Holm)` : "";
      const mcnemar = finite(difference.p_mcnemar)
        ? `; p by permutation ${difference.p.toPrecision(2)}, by McNemar ${difference.p_mcnemar.toPrecision(2)}, before Holm`
        : "";
      const title = finite(difference.value) ? "difference " + intervalWords(difference, name) + mcnemar : "";
      const words = `${before} → ${after}, ${nameOf({ name })} (${mode}): ${verdict}${p}`;
      return make("li", { title, dataset: { told: told ? "yes" : "no" } }, words);
    });
    for (const found of hallucination)
      if (finite(found.affirmed.value))
        lines.push(
          make(
            "li",
            {},
            `${found.system}: ` +
              (finite(found.absent.value) ? `affirms ${intervalWords(found.absent)} of absent findings; ` : "") +
              `says yes to ${intervalWords(found.affirmed)} of what is answered with no; yes-bias ` +
              `${(100 * found.yes_bias).toFixed(1)} points, precision ${wordsOf(found.precision)}, recall ${wordsOf(found.recall)}`,
          ),
        );
    for (const found of controls) {
      const [mode, name] = found.name.split(".");
      const needed = finite(found.needed_image) ? `; ${wordsOf(found.needed_image)} of the right ones needed it` : "";
      lines.push(
        make(
          "li",
          {},
          `${found.adapter}, control “${found.control}”, ${nameOf({ name })} (${mode}): ${wordsOf(found.with_image)} with the image, ` +
            `${wordsOf(found.without_image)} without${needed}`,
        ),
      );
    }
    if (!lines.length) lines.push(make("li", {}, "One system alone: there is nothing to compare it with."));
    list.replaceChildren(...lines);
  }

  // The metrics of whole reports: a row for each, a column for each system; what could not be measured says why.
  function fillReports(table, { reports, systems }) {
    const shown = systems.filter((system) => reports.some((metric) => metric.system === system));
    const rows = [...new Set(reports.map(({ name }) => name))].map((name) => {
      const found = reports.filter((metric) => metric.name === name);
      const cells = shown.map((system) => {
        const metric = found.find((one) => one.system === system);
        if (!finite(metric?.value)) return make("td", {}, "–");
        const reach = finite(metric.low) ? ` (${metric.low.toFixed(3)} to ${metric.high.toFixed(3)})` : "";
        const title = `${metric.reports} reports` + (metric.images ? ` about ${metric.images} images` : "");
        return make("td", { title }, metric.value.toFixed(3) + reach);
      });
      const head = make("th", { scope: "row" }, name + " ", make("small", {}, found[0].note));
      return make("tr", { dataset: { metric: name } }, head, ...cells);
    });
    const head = make("tr", {}, make("td"), ...shown.map((system) => make("th", { scope: "col" }, system)));
    table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  }

  // A row for each value of a group, a dot with its interval for each system; `choose(value, system)` shows the questions
  // behind a dot, or behind a row where there is no system.
  function drawGroups(place, report, group, key, choose) {
    const chosen = report.metrics.filter((metric) => metric.group === group && keyOf(metric) === key);
    const values = [...new Set(chosen.map((metric) => metric.value_of_group))];
    const [{ name } = { name: "" }] = chosen;
    const systems = report.systems.filter((system) => chosen.some((metric) => metric.system === system));
    const high = Math.max(1, ...chosen.map((metric) => metric.interval.high ?? metric.interval.value ?? 0));
    const top = name === "relative_mass" ? high : 1;
    const x = (value) => LEFT + (value / top) * (WIDTH - LEFT - RIGHT);
    const height = values.length * ROW + 24;
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, "aria-label": `${name} by ${group}` });
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const at = x(share * top);
      picture.append(svg("line", { class: "grid", x1: at, x2: at, y1: 4, y2: height - 18 }));
      picture.append(
        svg("text", { x: at, y: height - 4, "text-anchor": "middle" }, (scaleOf(name) * share * top).toFixed(0)),
      );
    }
    values.forEach((value, row) => {
      const middle = row * ROW + ROW / 2 + 4;
      const words = `Questions of ${value}`;
      const label = svg(
        "text",
        {
          class: "value",
          x: LEFT - 8,
          y: middle + 4,
          "text-anchor": "end",
          tabindex: 0,
          role: "button",
          "aria-label": words,
        },
        value,
      );
      label.addEventListener("click", () => choose(value));
      label.addEventListener("keydown", (event) => {
        if (event.key === "Enter") choose(value);
      });
      picture.append(label);
      systems.forEach((system, column) => {
        const metric = chosen.find((one) => one.system === system && one.value_of_group === value);
        if (!metric || !finite(metric.interval.value)) return;
        const { interval } = metric;
        const y = middle + (column - (systems.length - 1) / 2) * Math.min(7, 20 / systems.length);
        const colour = colours[report.systems.indexOf(system) % colours.length];
        const told = `${system}, ${value}: ${intervalWords(interval, name)}, ${interval.questions} questions`;
        const mark = svg("g", { class: "mark" }, svg("title", {}, told));
        mark.addEventListener("click", () => choose(value, system));
        if (finite(interval.low))
          mark.append(
            svg("line", { x1: x(interval.low), x2: x(interval.high), y1: y, y2: y, stroke: colour, "stroke-width": 2 }),
          );
        mark.append(svg("circle", { class: "dot", cx: x(interval.value), cy: y, r: 4, fill: colour }));
        picture.append(mark);
      });
    });
    const legend = make(
      "div",
      { className: "key" },
      ...systems.map((system) => {
        const mark = make("i");
        mark.style.background = colours[report.systems.indexOf(system) % colours.length];
        return make("span", {}, mark, system);
      }),
    );
    place.replaceChildren(picture, legend);
  }

  // Two evaluations beside each other (app.evaluate.service.EvaluateService.compare).
  function fillComparison(place, found) {
    const list = make("ul");
    fillVerdicts(list, found.comparisons);
    const counted = `${found.questions} questions in both; ${found.only_before} and ${found.only_after} in one alone.`;
    const settings = Object.entries(found.settings).map(([name, [before, after]]) =>
      tableRow([name, JSON.stringify(before) ?? "–", JSON.stringify(after) ?? "–"]),
    );
    const head = make(
      "tr",
      {},
      ...["setting that differs", found.before, found.after].map((text) => make("th", {}, text)),
    );
    const table = make("table", { className: "settings" }, make("thead", {}, head), make("tbody", {}, ...settings));
    const notes = found.notes.map((text) => make("p", {}, text));
    place.replaceChildren(make("p", {}, counted), list, ...notes, make("div", { className: "scroll" }, table));
  }

  return { nameOf, intervalWords, fillNumbers, fillSpreads, fillVerdicts, fillReports, drawGroups, fillComparison };
}
