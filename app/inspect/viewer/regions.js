// Regions: the list, the target made of those switched on, and its numbers. Drawing on the stage is in outlines.js.

const promptField = element.querySelector("[data-control=prompt]");
const NO_REGIONS = { board: "", rows: [], on: new Set(), paths: new Map(), numbers: null, state: "none", said: "", kept: "" };
let regions = { ...NO_REGIONS };
let hovered = ""; // key of the region under the pointer or the focus
// Numbers of the last requests: older answers are of no use.
let asked = 0;
let measured = 0;

// The words to rank for: the question that is being written, until there are others.
const wanted = () => promptField.value.trim() || document.querySelector("#question textarea, #question input")?.value || "";

// ---- asking the server ---------------------------------------------------------------------------

async function askRegions(state, call) {
  const mine = ++asked;
  measured++;
  const board = regions.board;
  regions = { ...regions, state, said: "", kept: "" };
  buildRegions();
  const reply = (await call(board).catch(() => null)) || NO_ANSWER;
  if (mine !== asked || board !== regions.board) return;
  if (reply.error) {
    regions = { ...regions, state: "said", said: reply.error };
    buildRegions();
    return;
  }
  const kept = state === "drawing" ? regions.on : null;
  const on = reply.rows.filter((row) => (kept ? kept.has(row.key) || row.key === reply.key : row.chosen)).map((row) => row.key);
  regions = { ...regions, ...reply, on: new Set(on), state: "ready", paths: pathsOf(reply.rows) };
  promptField.value = reply.prompt;
  buildRegions();
  if (kept || takenAlong().length) measureRegions();
}

const findRegions = (prompt) => askRegions(regions.rows.length ? "ranking" : "finding", (board) => server.find_regions({ board, prompt }));

// Results that were taken along for comparison are measured too.
const takenAlong = () => [...new Set(views.map((one) => one.result))].filter((result) => result !== data.result?.id);

async function measureRegions() {
  const board = regions.board;
  if (!regions.rows.length) return;
  const mine = ++measured;
  const chosen = [...regions.on];
  const reply = (await server.choose_regions({ board, chosen, others: takenAlong() }).catch(() => null)) || NO_ANSWER;
  if (mine !== measured || board !== regions.board) return;
  regions = { ...regions, numbers: reply.numbers || null, said: reply.error || "", kept: "" };
  buildNumbers();
}

async function keepTarget() {
  const chosen = [...regions.on];
  const reply = (await server.keep_target({ board: regions.board, chosen }).catch(() => null)) || NO_ANSWER;
  regions = { ...regions, said: reply.error || "", kept: reply.words || "" };
  part("download").hidden = !reply.archive;
  if (reply.archive) {
    URL.revokeObjectURL(part("download").href);
    part("download").href = URL.createObjectURL(new Blob([bytesOf(reply.archive)], { type: "application/zip" }));
  }
  buildNumbers();
}

// An image came, or an answer about it: the regions are looked for once the answer is on the page.
function receiveRegions(grows) {
  const board = data.board || "";
  if (board !== regions.board) {
    asked++;
    measured++;
    regions = { ...NO_REGIONS, board, on: new Set() };
    promptField.value = "";
    hovered = "";
    stopDrawing();
  }
  element.querySelectorAll(".region-part").forEach((node) => (node.hidden = !board));
  if (grows) measureRegions();
  else if (board && data.result) findRegions(data.result.question);
  else buildRegions();
}

// ---- the panel -------------------------------------------------------------------------------------

const BUSY = { finding: "Finding regions …", ranking: "Ranking regions …", drawing: "Looking into the box …" };

function buildRegions() {
  const holder = part("regionRows");
  const focused = holder.contains(document.activeElement) ? document.activeElement.dataset.key : "";
  holder.replaceChildren();
  const most = Math.max(...regions.rows.map((row) => row.weight), 1e-9);
  for (const row of regions.rows) {
    const line = document.createElement("tr");
    line.dataset.key = row.key;
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = regions.on.has(row.key);
    box.dataset.key = row.key;
    box.setAttribute("aria-label", "Region of rank " + row.rank + (row.drawn ? ", drawn by hand" : ""));
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = row.colour;
    const weight = document.createElement("span");
    weight.className = "weight";
    weight.style.setProperty("--share", (row.weight / most).toFixed(3));
    weight.textContent = percent(row.weight);
    const cells = [[box], [swatch, String(row.rank)], [scoreWords(row)], [weight], [percent(row.share)], [row.drawn ? "drawn box" : "found"]];
    for (const parts of cells) {
      const cell = document.createElement("td");
      cell.append(...parts);
      line.append(cell);
    }
    line.title = regionWords(row) + "\n" + row.area + " pixels, ranked for “" + row.phrase + "”";
    holder.append(line);
    if (row.key === focused) box.focus();
  }
  const busy = BUSY[regions.state] || "";
  const has = regions.rows.length > 0;
  part("regionTable").hidden = !has;
  part("regionBusy").hidden = !busy;
  part("regionBusyWords").textContent = busy;
  // The panel may lie below the window: say it beside the image as well.
  part("outlineWords").textContent = busy ? busy.split(" ")[0] + " …" : "Regions";
  element.querySelector("[data-action=stop]").hidden = !busy;
  const search = element.querySelector("[data-action=rank]");
  search.textContent = has ? "Rank" : "Find regions";
  search.disabled = Boolean(busy);
  part("regionNotes").textContent = has && !busy ? [regions.made_by, ...regions.notes.map((note) => note.replace(/[.]*$/, "."))].join(" ") : "";
  part("regionHint").hidden = has || Boolean(busy) || Boolean(regions.said);
  element.querySelector("[data-control=outlines]").disabled = !has;
  stage.dataset.regions = regions.state + " " + regions.rows.length;
  buildNumbers();
}

function buildNumbers() {
  const has = regions.rows.length > 0;
  const list = part("regionNumbers");
  list.replaceChildren();
  const one = views.length ? front() : null;
  const inside = one && regions.numbers?.views.find((item) => item.result === one.result && item.adapter === one.adapter);
  for (const [, name, value, meaning] of [...(inside?.rows || []), ...(regions.numbers?.area || [])]) {
    const term = document.createElement("dt");
    const number = document.createElement("dd");
    term.textContent = name;
    number.textContent = value;
    term.title = number.title = meaning;
    list.append(term, number);
  }
  element.querySelector(".target").hidden = !has;
  part("targetNote").textContent = !regions.on.size
    ? "No region is switched on."
    : data.result
      ? (views.length > 1 ? one.label + ": critical" : "Critical") + " heads, mean of the answer, in " + regions.on.size + (regions.on.size === 1 ? " region." : " regions together.")
      : "Ask a question to see how much attention falls inside.";
  element.querySelector("[data-action=keep]").disabled = !regions.on.size;
  part("regionSaid").textContent = regions.said;
  part("regionSaid").hidden = !regions.said;
  part("regionSaid").classList.toggle("calm", regions.said === "Stopped.");
  part("kept").textContent = regions.kept;
  if (!regions.kept) part("download").hidden = true;
  element.querySelectorAll(".regions tr[data-key]").forEach((line) => line.classList.toggle("off", !regions.on.has(line.dataset.key)));
  if (views.length) {
    buildComparison();
    buildHeads();
  }
  draw();
}

const scoreWords = (row) => row.score.toFixed(2).replace("-", "−");
const regionWords = (row) => "Rank " + row.rank + " · score " + scoreWords(row) + " · weight " + percent(row.weight) + (row.drawn ? " · drawn" : "");

function hoverRegion(key) {
  if (key === hovered) return;
  hovered = key;
  element.querySelectorAll(".regions tr[data-key]").forEach((line) => line.classList.toggle("hovered", line.dataset.key === key));
  draw();
}

function switchRegion(key, on) {
  if (on) regions.on.add(key);
  else regions.on.delete(key);
  buildNumbers();
  measureRegions();
}

// By its place in the list, from 0.
function toggleRegion(place) {
  const row = regions.rows[place];
  if (!row) return;
  switchRegion(row.key, !regions.on.has(row.key));
  part("regionRows").querySelectorAll("input")[place].checked = regions.on.has(row.key);
}

part("regionRows").addEventListener("change", (event) => switchRegion(event.target.dataset.key, event.target.checked));
part("regionRows").addEventListener("pointerover", (event) => hoverRegion(event.target.closest("tr")?.dataset.key || ""));
part("regionRows").addEventListener("pointerleave", () => hoverRegion(""));
part("regionRows").addEventListener("focusin", (event) => hoverRegion(event.target.dataset.key || ""));
part("regionRows").addEventListener("focusout", () => hoverRegion(""));
element.querySelector(".rank-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!BUSY[regions.state]) findRegions(wanted());
});
element.querySelector("[data-action=stop]").addEventListener("click", () => server.stop_regions({ board: regions.board }).catch(() => null));
element.querySelector("[data-action=keep]").addEventListener("click", keepTarget);
