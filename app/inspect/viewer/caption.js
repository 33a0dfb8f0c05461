// What the picture shows in words, so that a screenshot can stand alone: model, adapter, heads, words, method.

import { percent } from "../../common/static/format.js";
import { isWord } from "./word_alignment.js";

export function createCaption({ part, state }) {
  const model = () => state.data.result.model.split(" (")[0];

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

  function methodWords(view) {
    if (state.experts.on) return "experts of the key router, layer " + state.experts.layer;
    if (state.display.sinks && view.sinks.length) return "attention, " + view.sinks.length + " sink patches filled in";
    return "raw attention";
  }

  function show(missing) {
    if (!state.data.result) {
      part("caption").textContent = "";
      return;
    }
    const { comparing, mode } = state;
    const shown = comparing ? state.both : [state.front];
    const named = shown.map((view) => (comparing ? state.nameOf(view) + ": " : "") + view.label);
    const adapters = mode === "difference" ? named.reverse().join(" less ") : named.join(" against ");
    const [view] = shown;
    const lines = [
      model(),
      (comparing ? "adapters " : "adapter: ") + adapters,
      headWords(view),
      wordWords(view),
      methodWords(view),
    ];
    const { share } = state.mapOf(state.front);
    if (share !== undefined && !comparing) lines.push(percent(share) + " of its attention on the image");
    part("caption").textContent = [missing, state.trouble, lines.join(" · ")].filter(Boolean).join(" · ");
  }

  // A map in one line, for what takes longer than it may stay on show.
  const mapWords = (view) =>
    (state.sideB ? state.nameOf(view) + ": " : "") + [view.label, headWords(view), wordWords(view)].join(" · ");

  return { show, model, mapWords };
}
