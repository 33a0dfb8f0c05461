// An evaluation as it goes, and what it found. The value says which one (app.evaluate.tab.EvaluateTab.show); news are
// asked for once a second while it goes on, and not at all while nobody looks.

import { openThings, tellThing } from "../../common/static/address.js";
import { bytesOf } from "../../common/static/base64.js";
import { make, saveFile } from "../../common/static/dom.js";
import { showNoRun, showRunHead } from "../../common/static/run_head.js";
import { answerOf } from "../../common/static/server.js";
import { showItems } from "./items.js";
import { createNumbers, keyOf } from "./numbers.js";
import { drawAlluvial, fillCells } from "./reasons.js";

const PERIOD = 1000;
const REST = 250; // how long typing rests before it is searched for, in milliseconds
const LOST = { error: "The server does not answer. The evaluation does not need it.", lost: true };

export default function mount(
  { element, props, server, trigger, watch },
  { colours, cells, files, presentation, usualThreshold },
) {
  const numbers = createNumbers(presentation);
  const root = element.querySelector(".evaluation");
  const part = (name) => root.querySelector("." + name);
  let follow = null; // what the value says
  let results = null; // {run, report}
  let timer = null;
  let asking = false;
  let urged = 0;
  let chosen = { kind: "all" };
  let typing = 0; // the timer of words that are being typed
  let offset = 0;
  let turn = 0; // of the questions on show

  const named = () => ({ visitor: follow.visitor, run: follow.run });
  const visible = () => root.offsetParent !== null;

  function fillSelect(select, entries, value) {
    select.replaceChildren(...entries.map(([text, name]) => make("option", { value: name }, text)));
    if (entries.some(([, name]) => name === value)) select.value = value;
  }

  function showHead(head) {
    showRunHead(root, head, ["status", "name", "tone"]);
    root.querySelector("progress").hidden = head.status === "finished";
    root.querySelector(".log pre").textContent = head.log || "Nothing printed yet.";
    part("results").hidden = head.status !== "finished";
  }

  function showResults(report, others) {
    results = { run: follow.run, report };
    const { data, systems } = report;
    const parts = `${data.questions} questions about ${data.images} images of ${data.name}, split ${data.split}; strict normalisation`;
    part("data").textContent = parts;
    part("notes").replaceChildren(...report.notes.map((note) => make("li", {}, note)));
    numbers.fillVerdicts(part("verdicts"), report.comparisons, report);
    numbers.fillNumbers(part("numbers"), report);
    part("seeds").hidden = !report.seeds.length;
    numbers.fillSpreads(part("spreads"), report.seeds);
    const grouped = report.metrics.filter((metric) => metric.group);
    fillSelect(
      part("group"),
      [...new Set(grouped.map(({ group }) => group))].map((group) => [group.replaceAll("_", " "), group]),
    );
    showMetrics();
    part("reports").hidden = !report.reports.length;
    numbers.fillReports(part("texts"), report);
    root.querySelector(".reasons").hidden = !report.reasons.length;
    if (report.reasons.length) {
      const slider = root.querySelector(".reasons input");
      slider.max = report.reasons.length - 1;
      slider.value = report.reasons.findIndex((step) => step.threshold === usualThreshold);
      fillSelect(
        part("moved"),
        report.reasons[0].flows.map(({ after }) => [after, after]),
      );
      part("flow-choice").hidden = !report.reasons[0].flows.length;
      showReasons();
    }
    const seeing = systems.filter((system) => !system.includes(", "));
    const pairs = seeing.map((system) => [system, system]);
    fillSelect(part("before"), pairs, seeing[0]);
    fillSelect(part("after"), pairs, seeing[1] || seeing[0]);
    fillSelect(part("other"), [["another evaluation …", ""], ...others], "");
    part("against").replaceChildren();
    part("downloads").replaceChildren(...files.map(downloadOf));
    choose({ kind: "all" });
    root.dataset.shown = follow.run;
  }

  function showMetrics() {
    const found = results.report.metrics.filter(({ group }) => group === part("group").value);
    const keys = new Map(found.map((metric) => [keyOf(metric), `${numbers.nameOf(metric)} (${metric.mode})`]));
    fillSelect(
      part("metric"),
      [...keys].map(([key, words]) => [words, key]),
      part("metric").value,
    );
    showGroups();
  }

  function showGroups() {
    const group = part("group").value;
    numbers.drawGroups(part("groups"), results.report, group, part("metric").value, (value, system) => {
      if (system && [...part("after").options].some((option) => option.value === system)) part("after").value = system;
      choose({ kind: "group", group, value });
    });
  }

  const step = () => results.report.reasons[Number(root.querySelector(".reasons input").value)];

  function showReasons() {
    const now = step();
    root.querySelector(".reasons output").textContent = now.threshold;
    fillCells(part("cells"), now, cells, (system, cell) => {
      part("after").value = system;
      choose({ kind: "cell", cell });
    });
    const moved = now.flows.find(({ after }) => after === part("moved").value);
    drawAlluvial(part("alluvial"), moved, cells, ([cell, cellAfter]) => {
      part("before").value = moved.before;
      part("after").value = moved.after;
      choose({ kind: "flow", cell, cell_after: cellAfter });
    });
  }

  // Shows the questions of a filter from the first on.
  function choose(next) {
    chosen = next;
    const kinds = part("kind");
    for (const option of kinds.options)
      if (["cell", "flow", "group"].includes(option.value)) option.disabled = option.value !== next.kind;
    kinds.value = next.kind;
    offset = 0;
    return ask();
  }

  async function ask() {
    const own = ++turn;
    const threshold = results.report.reasons.length ? step().threshold : usualThreshold;
    const sides = { before: part("before").value, after: part("after").value, text: part("text").value };
    const reply = await answerOf(
      server.read_questions({ ...named(), filter: { ...chosen, ...sides, threshold }, offset }),
    );
    if (own !== turn) return; // a newer choice is on its way
    if (reply.error) {
      part("found").textContent = reply.error;
      return;
    }
    const last = Math.min(reply.offset + reply.page, reply.count);
    part("found").textContent = reply.count ? `${reply.offset + 1} to ${last} of ${reply.count}` : "none";
    part("previous").disabled = reply.offset === 0;
    part("next").disabled = last >= reply.count;
    await showItems(part("items"), reply.items, colours, (number) => trigger("inspect", { number }));
    part("items").dataset.count = reply.count;
    part("items").dataset.kind = chosen.kind;
  }

  function downloadOf(name) {
    const button = make("button", { type: "button", dataset: { file: name } }, name);
    button.addEventListener("click", async () => {
      const reply = await answerOf(server.read_file({ ...named(), name }));
      if (reply.error) part("lost").textContent = reply.error;
      else saveFile(bytesOf(reply.content), "application/octet-stream", name);
    });
    return button;
  }

  async function poll() {
    clearTimeout(timer);
    if (asking || !follow) return;
    const asked = follow;
    let again = true;
    if (document.visibilityState === "visible" && visible()) {
      asking = true;
      const reply = await answerOf(server.read_evaluation({ ...named(), known: results?.run === asked.run }), LOST);
      asking = false;
      if (asked !== follow) {
        poll();
        return;
      }
      part("lost").textContent = reply.error || "";
      if (!reply.error) {
        showHead(reply.head);
        if (reply.results) showResults(reply.results, reply.others);
        if (JSON.stringify(reply.head.stamp) !== JSON.stringify(asked.stamp) && performance.now() - urged > 3000) {
          urged = performance.now();
          trigger("moved", { run: asked.run });
        }
        again = reply.head.live;
      }
    }
    if (again) timer = setTimeout(poll, PERIOD);
  }

  function receive() {
    const before = follow;
    follow = props.value ? JSON.parse(props.value) : null;
    if (!follow || before?.run !== follow.run) {
      results = null;
      part("results").hidden = true;
      root.dataset.shown = "";
    }
    if (!follow) showNoRun(root);
    urged = 0;
    tellThing("evaluate", follow?.run || "");
    poll();
  }

  part("group").addEventListener("change", showMetrics);
  part("metric").addEventListener("change", showGroups);
  part("moved").addEventListener("change", showReasons);
  root.querySelector(".reasons input").addEventListener("input", showReasons);
  for (const name of ["before", "after"]) part(name).addEventListener("change", () => choose(chosen));
  part("kind").addEventListener("change", () => choose({ kind: part("kind").value }));
  part("text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => choose(chosen), REST);
  });
  for (const [name, sign] of [
    ["previous", -1],
    ["next", 1],
  ])
    part(name).addEventListener("click", () => {
      offset = Math.max(0, offset + sign * 12);
      ask();
    });
  part("other").addEventListener("change", async () => {
    const other = part("other").value;
    part("against").replaceChildren(other ? "Comparing …" : "");
    if (!other) return;
    const { run } = results;
    const reply = await answerOf(server.compare_evaluations({ ...named(), other }));
    if (other !== part("other").value || results?.run !== run) return; // another choice was made meanwhile
    if (reply.error) part("against").replaceChildren(reply.error);
    else numbers.fillComparison(part("against"), reply);
  });
  openThings("evaluate", (name) => trigger("open", { run: name }));
  document.addEventListener("visibilitychange", poll);
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) poll();
  }).observe(root);
  watch("value", receive);
  receive();
}
