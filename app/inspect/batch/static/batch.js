// One question about many images, as a table that grows while the work goes on (app.inspect.batch). The value says which
// one; news are asked for while it goes on and somebody looks.

import { bytesOf } from "../../../common/static/base64.js";
import { saveFile } from "../../../common/static/dom.js";
import { count } from "../../../common/static/format.js";
import { answerOf } from "../../../common/static/server.js";
import { columnsOf, headOf, rowOf, sortedRows } from "./table.js";

const PERIOD = 500;
const LATER = 5000; // where the server did not answer
const KEPT = "a3tune-batch";

// The table that this browser tab showed last, which a reload finds again.
export function keptBatch() {
  try {
    return sessionStorage.getItem(KEPT) || "";
  } catch {
    return ""; // a browser that keeps nothing for pages
  }
}

function keep(batch) {
  try {
    sessionStorage.setItem(KEPT, batch);
  } catch {
    // A reload then shows no table.
  }
}

// "3 of 12, about 1 min left".
export function progressWords({ done, total, live, left, step, ended, broken }) {
  const lost = broken ? `, ${broken} of them could not be asked about` : "";
  if (!live) return ended || count(total, "image", "images") + lost;
  const minutes = Math.round(left / 60);
  const rest = !done ? step : left < 60 ? "less than 1 min left" : `about ${minutes} min left`;
  return [`${done} of ${total}`, rest].filter(Boolean).join(", ");
}

export default function mount({ element, props, server, trigger, watch }, { meaning }) {
  const root = element.querySelector(".batch");
  const part = (name) => root.querySelector("." + name);
  const rest = root.querySelector("#batch-rest");
  const body = root.querySelector("tbody");
  let batch = "";
  let rows = [];
  let lines = new Map(); // by a row's number
  let columns = [];
  let order = { column: null, descending: false };
  let shown = null; // the number of the row that was opened last
  let timer = null;
  let asking = false;
  let live = true; // as far as is known

  const ordered = () => sortedRows(rows, columns[order.column], order.descending);
  const openable = () => ordered().filter((row) => !row.error);

  function arrange() {
    root.querySelector("thead").replaceChildren(headOf(columns, order, choose));
    const { activeElement } = document;
    body.append(...ordered().map((row) => lines.get(row.number)));
    // A line that is moved loses the focus.
    if (body.contains(activeElement)) activeElement.focus();
  }

  function choose(column) {
    const numbers = columns[column].kind === "number";
    order = { column, descending: order.column === column ? !order.descending : numbers };
    arrange();
    root.querySelectorAll("thead .sort")[column].focus();
    mark();
  }

  function mark() {
    for (const [number, line] of lines) line.toggleAttribute("data-shown", number === shown);
    const list = openable();
    const place = list.findIndex((row) => row.number === shown);
    part("previous").disabled = place <= 0;
    part("next").disabled = !list.length || place === list.length - 1;
    part("now").textContent = place < 0 ? "" : `${list[place].name}, ${place + 1} of ${list.length}`;
  }

  function fold(folded) {
    rest.hidden = folded;
    root.toggleAttribute("data-folded", folded);
    part("fold").textContent = folded ? "Show table" : "Hide table";
    part("fold").setAttribute("aria-expanded", String(!folded));
  }

  // The viewer stands below: the table makes room for it.
  function open(number) {
    shown = number;
    mark();
    fold(true);
    const within = document.activeElement;
    if (!within || within === document.body || !within.checkVisibility()) part("fold").focus();
    root.scrollIntoView({ block: "start" });
    trigger("open", { batch, number });
  }

  function step(by) {
    const list = openable();
    const place = list.findIndex((row) => row.number === shown);
    const next = list[place < 0 ? 0 : place + by];
    if (next) open(next.number);
  }

  function show(news) {
    if (!columns.length) columns = columnsOf(news.adapters);
    const known = rows.length;
    rows.push(...news.rows.slice(Math.max(0, known - (news.rows[0]?.number ?? known))));
    for (const row of rows.slice(known)) lines.set(row.number, rowOf(row, columns));
    if (rows.length > known || !known) arrange();
    mark();
    part("question").textContent = `“${news.question}”`;
    part("progress-words").textContent = progressWords({ ...news, broken: rows.filter((row) => row.error).length });
    part("stop").hidden = !news.live;
    part("take").disabled = !rows.length;
    const bar = root.querySelector("progress");
    Object.assign(bar, { max: news.total, value: news.done });
    bar.hidden = !news.live;
    live = news.live;
    Object.assign(root.dataset, { state: live ? "live" : "over", done: news.done });
  }

  async function poll() {
    clearTimeout(timer);
    if (asking || !batch) return;
    const asked = batch;
    let wait = PERIOD;
    if (document.visibilityState === "visible" && element.checkVisibility()) {
      asking = true;
      const reply = await answerOf(server.read_batch({ batch, known: rows.length }));
      asking = false;
      if (asked !== batch) return poll();
      part("said").textContent = reply.error || "";
      if (reply.error) wait = LATER;
      else show(reply);
    }
    if (live) timer = setTimeout(poll, wait);
  }

  function receive() {
    const next = props.value ? JSON.parse(props.value).batch : "";
    if (next === batch) return;
    [batch, rows, lines, columns, shown] = [next, [], new Map(), [], null];
    order = { column: null, descending: false };
    live = true;
    body.replaceChildren();
    fold(false);
    root.hidden = !batch;
    // What a reload finds again stays where it is.
    if (batch && batch !== keptBatch()) root.scrollIntoView({ block: "start" });
    keep(batch);
    poll();
  }

  // Sent by the page's head, on whatever tab. It is on show as soon as its tab is, or, where another page of the visit
  // began it, as soon as it has come.
  document.addEventListener("open-batch", ({ detail }) => {
    if (detail !== batch) trigger("adopt", { batch: detail });
    new ResizeObserver((_, sizes) => {
      if (batch !== detail || !root.checkVisibility()) return;
      sizes.disconnect();
      root.scrollIntoView({ block: "start" });
      part("fold").focus({ preventScroll: true });
    }).observe(root);
  });
  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr:not(.broken)");
    if (line) open(Number(line.dataset.number));
  });
  // Up and down walk through the rows.
  body.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const names = [...body.querySelectorAll(".open")];
    const next = names[names.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
  part("previous").addEventListener("click", () => step(-1));
  part("next").addEventListener("click", () => step(1));
  part("fold").addEventListener("click", () => fold(!rest.hidden));
  part("stop").addEventListener("click", async () => {
    const asked = batch;
    const reply = await answerOf(server.stop_batch({ batch }));
    if (asked !== batch) return; // another table is on show
    part("said").textContent = reply.error || "";
    poll();
  });
  part("take").addEventListener("click", async () => {
    const asked = batch;
    const reply = await answerOf(server.take_table({ batch }));
    if (asked === batch) part("said").textContent = reply.error || "";
    if (!reply.error) saveFile(bytesOf(reply.content), "text/csv", "a3tune-images.csv");
  });
  part("meaning").title = meaning;
  document.addEventListener("visibilitychange", poll);
  new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && poll()).observe(element);
  watch("value", receive);
  receive();
}
