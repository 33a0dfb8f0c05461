// The answers of both sides, and who gave them.

import { make } from "../../common/static/dom.js";
import { differingRows, isWord } from "./word_alignment.js";

export function createAnswers({ part, state, caption }) {
  function build() {
    part("answers").replaceChildren();
    const { result } = state.data;
    part("speaker").textContent = "";
    if (!state.views.length) return;
    const onlyHere = differingRows(state.both);
    part("answers").append(...state.both.map((view, side) => block(view, side, onlyHere[side])));
    if (state.awaited) part("answers").append(room(state.awaited));
    const adapters = [...new Set(state.both.map((view) => view.adapter))].join(" and ");
    part("speaker").textContent = caption.model() + ", adapter: " + adapters + ". " + result.notice;
  }

  function block(view, side, onlyHere) {
    const made = make("div", { className: "answer-of" + (view === state.front ? " front" : "") });
    if (state.sideB || state.awaited)
      made.append(make("p", { className: "fine", textContent: (side ? "B" : "A") + " · " + view.label }));
    if (view.warning) made.append(make("p", { className: "warning", role: "alert", textContent: view.warning }));
    const text = make("p", { className: "answer", dataset: { part: side ? "answerB" : "answer" } });
    const words = view.tokens.filter((token) => token.role === "answer" && isWord(token));
    // The words as the tokens have them, with those marked that the other side has not; where the tokens do not spell
    // the answer (bytes of a letter), the answer as it is.
    if (
      state.sideB &&
      words
        .map((token) => token.text)
        .join("")
        .trim() === view.answer
    )
      text.append(
        ...words.map((token) => make(onlyHere.has(token.row) ? "mark" : "span", { textContent: token.text })),
      );
    else text.textContent = view.answer || "(empty answer)";
    if (view.writing) text.append(make("span", { className: "fine", textContent: " …" }));
    made.append(text);
    if (view.reference && !view.writing) made.append(verdict(view));
    const inside = view.rows.find(([key]) => key === "reference_mass");
    if (inside) {
      const textContent = inside[2] + " of its attention inside the reference mask";
      made.append(make("p", { className: "fine", textContent, title: inside[3] }));
    }
    return made;
  }

  // The place of an answer that has not begun.
  const room = (adapter) =>
    make(
      "div",
      { className: "answer-of" },
      make("p", { className: "fine", textContent: "B · " + adapter }),
      make("p", { className: "answer" }, make("span", { className: "fine", textContent: "…" })),
    );

  // Word for word, as the examples are described.
  function verdict({ answer, reference }) {
    const right = answer.trim().toLowerCase() === reference.trim().toLowerCase();
    return make("p", {
      className: "verdict " + (right ? "right" : "wrong"),
      textContent: right ? "✓ the reference answer" : "✗ the reference answer is “" + reference + "”",
    });
  }

  return { build };
}
