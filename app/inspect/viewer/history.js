// The last inspections of this visit, to open again or to compare with.

import { make } from "../../common/static/dom.js";
import { answerOf } from "../../common/static/server.js";
import { chosenFiles } from "../static/sending.js";
import { viewsOf } from "./result_views.js";

export function createHistory(viewer) {
  const { part, state, server, trigger } = viewer;

  function build() {
    const { history } = state.data;
    part("historyHint").hidden = history.length > 0;
    part("history").replaceChildren(...history.map(item));
  }

  function item(past) {
    const { result, image } = state.data;
    const answers = past.answers.map(([adapter, answer]) => adapter + ": " + (answer || "(empty)")).join(" · ");
    const words = make(
      "div",
      {},
      make("b", { textContent: past.question }),
      make("p", { className: "fine", textContent: answers }),
    );
    const made = make("li", {}, make("img", { src: past.thumbnail, alt: "" }), words);
    if (past.result === result?.id) made.append(make("span", { className: "fine", textContent: "on show" }));
    else {
      made.append(button("Open", "open", past.result));
      if (result && past.image === image?.key) made.append(button("Compare", "compare", past.result));
    }
    return made;
  }

  const button = (textContent, past, result) =>
    make("button", { type: "button", className: "chip", textContent, dataset: { past, result } });

  async function fetchAndCompare(result) {
    const before = state.data;
    const reply = await answerOf(server.past_result({ result }));
    if (state.data !== before) return;
    part("historySaid").textContent = reply.error || "";
    if (!reply.error) compareWith(reply);
  }

  // Another question about the same image beside this one: its view by the same adapter becomes side A.
  function compareWith(result) {
    const shown = state.data.result;
    const here = state.front.result === shown.id ? state.front : state.views.find((view) => view.result === shown.id);
    const taken = viewsOf(result, shown);
    state.views = [...state.views.filter((view) => view.result !== result.id), ...taken];
    const there = taken.find((view) => view.adapter === here.adapter) || taken[0];
    state.pair.mode = "side";
    viewer.comparison.choosePair(state.views.indexOf(there), state.views.indexOf(here));
    viewer.tabs.choose("compare");
    viewer.regions.measure();
  }

  part("history").addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-past]");
    if (!pressed) return;
    const { past, result } = pressed.dataset;
    if (past === "open") trigger("reopen", { result, sent: chosenFiles() });
    else fetchAndCompare(result);
  });

  return { build };
}
