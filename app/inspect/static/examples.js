// A strip of example images; choosing one triggers "pick" with its key. Beside it own files are chosen, whose way is told.

import { make, press } from "../../common/static/dom.js";
import { chosenFiles, followSending, nameOfFiles } from "./sending.js";

export default function mount({ element, props, trigger, watch }, { items }) {
  const strip = element.querySelector(".examples");
  for (const { key, about, thumbnail, title } of items) {
    const button = make("button", { type: "button", className: "example", title: about, dataset: { key } });
    button.append(make("img", { src: thumbnail, alt: "" }), make("span", { textContent: title }));
    strip.append(button);
  }

  strip.addEventListener("click", (event) => {
    const button = event.target.closest(".example");
    if (button) trigger("pick", { key: button.dataset.key, sent: chosenFiles() });
  });

  // The server says which example is on show, or of an own image, as JSON, its thumbnail and the number of its files.
  function mark() {
    const value = props.value || "";
    const shown = value.startsWith("{") ? JSON.parse(value) : null;
    strip.querySelectorAll(".example").forEach((button) => press(button, button.dataset.key === value));
    const own = element.querySelector(".own");
    own.hidden = !shown;
    if (!shown) return;
    own.querySelector("img").src = shown.thumbnail;
    own.querySelector("b").textContent = nameOfFiles(shown.sent);
  }
  watch("value", mark);
  mark();
  const inputs = element.closest("#inputs"); // not on the initial page
  if (inputs) followSending(inputs, trigger);
}
