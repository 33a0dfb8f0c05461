// What the picture shows in words, so that a screenshot can stand alone: model, adapter, heads, words, method.

import { percent } from "../../common/static/format.js";
import { isWord } from "./word_alignment.js";

export function createCaption(viewer) {
  const { part, state } = viewer;

  function headWords(view) {
    const { heads, layer, head } = state.chosen;
    if (heads === "head") return "layer " + layer + ", head " + head;
    return heads === "critical"
      ? view.critical.length + " critical heads"
      : "mean of all " + view.layers * view.heads + " heads";
  }

  function wordWords(view) {
    if (state.chosen.words !== "own") return "mean of the " + state.chosen.words;
    const rows = state.rowsOf(view);
    const words = view.tokens.filter((token) => isWord(token) && rows.includes(token.row));
    return words.map((token) => "“" + token.text.trim() + "”").join(" + ");
  }

  // The words of each side, once where they are the same words of the same question.
  function wordsOfSides(views) {
    const told = views.map((view) => wordWords(view) || "no such word");
    const same = new Set(told).size === 1 && new Set(views.map((view) => view.question)).size === 1;
    if (same) return told[0];
    return views.map((view, side) => state.nameOf(view) + ": " + told[side] + questionWords(view)).join(", ");
  }

  const questionWords = (view) =>
    state.chosen.words !== "own" && view.question !== state.data.result.question ? " (to “" + view.question + "”)" : "";

  function methodWords(views) {
    const filled = views.filter((view) => view.sinks.length);
    if (!state.display.sinks || !filled.length) return "raw attention";
    return "attention, sink patches filled in: " + filled.map((view) => view.sinks.length).join(" and ");
  }

  const model = () => state.data.result.model.split(" (")[0];

  function mapParts(views) {
    if (!state.display.map) return ["map off"];
    if (state.experts.on) return ["experts of the key router, layer " + state.experts.layer];
    const heads = [...new Set(views.map(headWords))];
    const share = views.length > 1 ? undefined : state.mapOf(views[0]).share;
    return [
      heads.length > 1 ? "A: " + heads[0] + ", B: " + heads[1] : heads[0],
      wordsOfSides(views),
      methodWords(views),
      share === undefined ? "" : percent(share) + " of its attention on the image",
    ];
  }

  // `notes`: why a view's pane has no map.
  function show(notes) {
    if (!state.data.result) {
      part("caption").textContent = "";
      return;
    }
    const { comparing, mode } = state;
    const shown = comparing ? state.both : [state.front];
    const named = shown.map((view) => (comparing ? state.nameOf(view) + ": " : "") + view.label);
    const adapters = mode === "difference" ? [...named].reverse().join(" less ") : named.join(" against ");
    const lacking = [...notes].map(([view, note]) => (comparing ? state.nameOf(view) + " " : "") + note);
    const parts = [model(), (comparing ? "adapters " : "adapter: ") + adapters, ...mapParts(shown)];
    const reference = viewer.referenceMask.isDrawn() ? "dashed line: reference mask" : "";
    part("caption").textContent = [...lacking, state.trouble, ...parts, reference].filter(Boolean).join(" · ");
  }

  // A map in one line, for what takes longer than it may stay on show.
  const mapWords = (view) =>
    (state.sideB ? state.nameOf(view) + ": " : "") + [view.label, headWords(view), wordWords(view)].join(" · ");

  return { show, model, mapWords };
}
