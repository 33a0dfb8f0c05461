// Suggested questions; choosing one triggers "pick" with its text.

import { make } from "../../common/static/dom.js";

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
