// Draws the page's head, the examples and the viewer from the components that Gradio is about to build, with their own
// modules, and goes away when the viewer that can be used has drawn the same.

import { make } from "./dom.js";

// No request is made from here: what would ask the server waits for ever, and is gone with the rest.
const server = new Proxy({}, { get: () => () => new Promise(() => {}) });

const componentOf = (id) => window.gradio_config.components.find(({ props }) => props.elem_id === id).props;

// Gradio's first progress line asks in each frame for the next one, for ever: it is taken away while it counts. It keeps
// the function that it found when it was loaded. Gives what ends such chains of frames; all others go on.
function boundFrames() {
  const ask = window.requestAnimationFrame;
  let over = false;
  let ending = false; // while a frame is drawn that was asked for before the end
  window.requestAnimationFrame = (draw) => {
    if (ending) return 0;
    const before = !over;
    return ask((time) => {
      ending = before && over;
      try {
        draw(time);
      } finally {
        ending = false;
      }
    });
  };
  return () => {
    over = true;
    window.requestAnimationFrame = ask;
  };
}

// `ids`: those of the widgets' elements.
export function drawInitialPage(ids) {
  const initial = document.getElementById("initial-page");
  initial.querySelector(".adapters").hidden = !componentOf("adapters").visible;
  for (const id of ids) {
    const { html_template, css_template, js_on_load, props, value } = componentOf(id);
    const place = initial.querySelector("[data-of=" + id + "]");
    place.innerHTML = html_template;
    place.before(make("style", {}, "#initial-page [data-of=" + id + "] {" + css_template + "}"));
    const mount = new Function("element", "props", "server", "trigger", "watch", js_on_load);
    const nothing = () => {};
    mount(place, { ...props, value }, server, nothing, nothing);
  }
  initial.querySelector(".model .text").textContent = "Opening the page …";
  giveWay(initial, boundFrames());
}

function giveWay(initial, endFrames) {
  const compare = () => {
    const begun = Boolean(document.querySelector("#viewer [data-begun]"));
    // The server knows the image that a question is about once the visit has begun: nobody can ask before.
    const inputs = document.getElementById("inputs");
    if (inputs && inputs.inert === begun) inputs.inert = !begun;
    if (!document.querySelector("#viewer .stage[data-shown]:not([data-shown=''])")) return;
    initial.remove();
    document.getElementById("initial-style")?.remove();
    if (!begun) return;
    watcher.disconnect();
    endFrames();
  };
  const watcher = new MutationObserver(compare);
  const shown = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-shown", "data-begun"] };
  watcher.observe(document.body, shown);
}
