// Does the map matter to the answer? Deletion and insertion curves, and a control with random weights, on demand.

import { make } from "../../common/static/dom.js";
import { answerOf } from "../../common/static/server.js";
import { lineChart } from "./chart.js";

const NONE = { job: "", kind: "", of: "", timer: 0 };
const WAITING = "waiting"; // asked for, and not taken yet

export function createFaithfulness(viewer) {
  const { element, part, state, server } = viewer;
  const buttons = element.querySelectorAll("[data-faithfulness]");
  let check = NONE;
  // One is asked for after the other: the server has the later one take the earlier one's place.
  let asking = Promise.resolve();

  async function start(kind) {
    if (!state.views.length) return;
    const view = state.front;
    // Another map may be on show by the time that the result is.
    const of = viewer.caption.mapWords(view);
    stop();
    const { heads, layer, head } = state.chosen;
    const asked = {
      result: view.result,
      adapter: view.adapter,
      kind,
      heads: heads === "head" ? [layer, head] : heads,
      rows: state.rowsOf(view),
    };
    const mine = { ...NONE, job: WAITING };
    check = mine;
    showBusy("Starting", 0);
    asking = asking.then(() => answerOf(server.start_faithfulness(asked)));
    const reply = await asking;
    // Stopped meanwhile, and perhaps another one is waited for.
    if (check !== mine) {
      if (reply.job) server.stop_faithfulness({ job: reply.job }).catch(() => null);
      return;
    }
    if (reply.error) return end(reply.error);
    check = { job: reply.job, kind, of, timer: setTimeout(follow, 200) };
  }

  async function follow() {
    const { job, kind, of } = check;
    const reply = await answerOf(server.follow_faithfulness({ job }));
    if (check.job !== job) return;
    if (reply.error) return end(reply.error);
    if (!reply.done) {
      showBusy(reply.what, reply.share);
      check.timer = setTimeout(follow, 250);
      return;
    }
    end("");
    if (kind === "curves") showCurves(reply.result, of);
    else showControl(reply.result, of);
  }

  function stop() {
    clearTimeout(check.timer);
    const { job } = check;
    if (job && job !== WAITING) server.stop_faithfulness({ job }).catch(() => null);
    end(job ? "Stopped." : "");
  }

  function end(words) {
    check = NONE;
    part("faithfulnessBusy").hidden = true;
    part("faithfulnessSaid").textContent = words;
    buttons.forEach((button) => (button.disabled = false));
  }

  function showBusy(what, share) {
    part("faithfulnessSaid").textContent = "";
    part("faithfulnessBusy").hidden = false;
    part("faithfulnessWhat").textContent = what + " …";
    part("faithfulnessBar").value = Math.round(100 * share);
    buttons.forEach((button) => (button.disabled = true));
  }

  function clear() {
    if (check.job) stop();
    part("faithfulnessSaid").textContent = "";
    part("curves").replaceChildren();
    part("control").replaceChildren();
  }

  function showCurves(result, of) {
    const chart = (kind, title, axis) => {
      const lines = [
        { values: result[kind + "_random"], className: "random" },
        { values: result[kind], className: "map" },
      ];
      const areas =
        ": area " + result[kind + "_area"].toFixed(3) + " (random " + result[kind + "_random_area"].toFixed(3) + ")";
      const most = 1.05 * Math.max(...lines.flatMap((line) => line.values), 1e-6);
      return lineChart(title + areas, result.shares, lines, axis, [0, most]);
    };
    part("curves").replaceChildren(
      chart("deletion", "Deletion", "patches hidden, highest first"),
      chart("insertion", "Insertion", "patches shown, highest first"),
      checkWords(of, result.words),
    );
  }

  // A rank correlation, from -1 to 1.
  function showControl(result, of) {
    const shares = result.randomised.map((_, i) => i / Math.max(1, result.randomised.length - 1));
    const least = Math.min(...result.likeness.map((value) => value ?? 0));
    const line = { values: result.likeness, className: "map" };
    const range = [least < 0 ? Math.min(least, -0.25) : 0, 1];
    part("control").replaceChildren(
      lineChart(
        "Likeness to the map of the trained weights",
        shares,
        [line],
        "layers with random weights, top first",
        range,
      ),
      checkWords(of, result.words),
    );
  }

  buttons.forEach((button) => button.addEventListener("click", () => start(button.dataset.faithfulness)));
  element.querySelector("[data-action=stopFaithfulness]").addEventListener("click", stop);

  return { clear };
}

const checkWords = (of, words) => make("p", {}, make("b", { textContent: of }), make("br"), words);
