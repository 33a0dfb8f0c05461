// Suggested questions; choosing one triggers "pick" with its text.

import { make } from "../../common/static/dom.js";

let written = ""; // by the visitor, last
document.addEventListener("input", ({ target }) => {
  if (target.closest?.("#question")) written = target.value;
});

// Whether a question is the visitor's own words: no example's, no suggestion, or one of these that was typed.
export const writtenQuestion = (question, offered) =>
  question.trim() && (question === written || !offered.includes(question)) ? question : "";

// The question that stays in the field when another image is on show: all but one of an example's where none is, which
// was never asked about this image. `example` is that on show, JSON for an own image; `viewer` is the viewer's value,
// which the server sent last; `questions` are those of all examples.
export const keptQuestion = (question, example, viewer, questions) =>
  (example && !example.startsWith("{")) || isAnswered(viewer) || writtenQuestion(question, questions) ? question : "";

// A question that waited for the image has its answers when the image has been opened. What is drawn says so too late:
// a picture is decoded first.
function isAnswered(viewer) {
  const sent = JSON.parse(viewer || "{}");
  return Boolean(sent.result || sent.written);
}

export default function mount({ element, props, trigger, watch }) {
  const list = element.querySelector(".suggestions");

  function show() {
    const questions = JSON.parse(props.value || "[]");
    list.replaceChildren(
      ...questions.map((textContent) => make("button", { type: "button", className: "suggestion", textContent })),
    );
  }

  list.addEventListener("click", (event) => {
    const button = event.target.closest(".suggestion");
    if (button) trigger("pick", { question: button.textContent });
  });
  watch("value", show);
  show();
}
