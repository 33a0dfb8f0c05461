// The list of regions, what can be done with them, and the numbers of the target.

import { make, tableRow } from "../../common/static/dom.js";
import { percent } from "../../common/static/format.js";

const BUSY = { finding: "Finding regions …", ranking: "Ranking regions …", drawing: "Looking into the box …" };

const scoreWords = (row) => row.score.toFixed(2).replace("-", "−");

export const regionWords = (row) =>
  "Rank " +
  row.rank +
  " · score " +
  scoreWords(row) +
  " · weight " +
  percent(row.weight) +
  (row.drawn ? " · drawn" : "");

export function createRegionPanel(viewer) {
  const { element, part, state, stage } = viewer;

  function build() {
    const { regions } = state;
    const holder = part("regionRows");
    const focused = holder.contains(document.activeElement) ? document.activeElement.dataset.key : "";
    const most = Math.max(...regions.rows.map((row) => row.weight), 1e-9);
    holder.replaceChildren(...regions.rows.map((row) => line(row, most)));
    if (focused) [...holder.querySelectorAll("input")].find((box) => box.dataset.key === focused)?.focus();
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
    part("regionNotes").textContent =
      has && !busy ? [regions.made_by, ...regions.notes.map((note) => note.replace(/[.]*$/, "."))].join(" ") : "";
    part("regionHint").hidden = has || Boolean(busy) || Boolean(regions.said);
    element.querySelector("[data-control=outlines]").disabled = !has;
    stage.dataset.regions = regions.state + " " + regions.rows.length;
    buildNumbers();
  }

  function line(row, most) {
    const label = "Region of rank " + row.rank + (row.drawn ? ", drawn by hand" : "");
    const box = make("input", {
      type: "checkbox",
      checked: state.regions.on.has(row.key),
      "aria-label": label,
      dataset: { key: row.key },
    });
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = row.colour;
    const weight = make("span", { className: "weight", textContent: percent(row.weight) });
    weight.style.setProperty("--share", (row.weight / most).toFixed(3));
    const title = regionWords(row) + "\n" + row.area + " pixels, ranked for “" + row.phrase + "”";
    const made = tableRow(
      [
        box,
        swatch,
        scoreWords(row),
        weight,
        percent(row.share),
        row.drawn ? "drawn box" : row.small ? "found, small" : "found",
      ],
      { title, dataset: { key: row.key } },
    );
    swatch.after(String(row.rank));
    return made;
  }

  // All that changes with what is switched on and with the view in front.
  function buildNumbers() {
    const { regions, views } = state;
    const view = views.length ? state.front : null;
    const rows = [...((view && state.numbersInRegions(view)?.rows) || []), ...(regions.numbers?.area || [])];
    part("regionNumbers").replaceChildren(
      ...rows.flatMap(([, name, value, title]) => [
        make("dt", { textContent: name, title }),
        make("dd", { textContent: value, title }),
      ]),
    );
    element.querySelector(".target").hidden = !regions.rows.length;
    part("targetNote").textContent = targetWords(view);
    element.querySelector("[data-action=keep]").disabled = !regions.on.size;
    part("regionSaid").textContent = regions.said;
    part("regionSaid").hidden = !regions.said;
    part("regionSaid").classList.toggle("calm", regions.said === "Stopped.");
    part("kept").textContent = regions.kept;
    if (!regions.kept) part("download").hidden = true;
    part("regionRows")
      .querySelectorAll("tr")
      .forEach((one) => one.classList.toggle("off", !regions.on.has(one.dataset.key)));
    if (view) {
      viewer.comparison.build();
      viewer.heads.build();
    }
    viewer.draw();
  }

  function targetWords(view) {
    const { size } = state.regions.on;
    if (!size) return "No region is switched on.";
    if (!view) return "Ask a question to see how much attention falls inside.";
    const which = state.views.length > 1 ? view.label + ": critical" : "Critical";
    return which + " heads, mean of the answer, in " + (state.numbersInRegions(view)?.inside || tickedWords()) + ".";
  }

  // The regions that are switched on, by their ranks.
  function tickedWords() {
    const ranks = state.regions.rows.filter((row) => state.regions.on.has(row.key)).map((row) => row.rank);
    const all = ranks.length > 1 ? ranks.slice(0, -1).join(", ") + " and " + ranks.at(-1) : String(ranks[0]);
    return ranks.length > 1 ? "the regions of ranks " + all + " together" : "the region of rank " + all;
  }

  // By its place in the list, from 0.
  function toggle(place) {
    const row = state.regions.rows[place];
    if (!row) return;
    viewer.regions.choose(row.key, !state.regions.on.has(row.key));
    part("regionRows").querySelectorAll("input")[place].checked = state.regions.on.has(row.key);
  }

  const rows = part("regionRows");
  rows.addEventListener("change", (event) => viewer.regions.choose(event.target.dataset.key, event.target.checked));
  rows.addEventListener("pointerover", (event) => viewer.outlines.hover(event.target.closest("tr")?.dataset.key || ""));
  rows.addEventListener("pointerleave", () => viewer.outlines.hover(""));
  rows.addEventListener("focusin", (event) => viewer.outlines.hover(event.target.dataset.key || ""));
  rows.addEventListener("focusout", () => viewer.outlines.hover(""));
  element.querySelector(".rank-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!BUSY[state.regions.state]) viewer.regions.findWanted();
  });
  element.querySelector("[data-control=small]").addEventListener("change", () => {
    if (state.regions.state !== "none") viewer.regions.findWanted();
  });
  element.querySelector("[data-action=stop]").addEventListener("click", viewer.regions.stop);
  element.querySelector("[data-action=keep]").addEventListener("click", viewer.regions.keepTarget);

  return { build, buildNumbers, tickedWords, toggle };
}
