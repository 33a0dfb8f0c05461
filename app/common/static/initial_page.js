// Draws the page's head, the examples and the viewer from the components that Gradio is about to build, with their own
// modules, and goes away when the viewer that can be used has drawn the same.

import { make } from "./dom.js";

// No request is made from here: what would ask the server waits for ever, and is gone with the rest.
const server = new Proxy({}, { get: () => () => new Promise(() => {}) });

const componentOf = (id) => window.gradio_config.components.find(({ props }) => props.elem_id === id).props;

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
  giveWay(initial);
}

function giveWay(initial) {
  const compare = () => {
    const begun = Boolean(document.querySelector("#viewer [data-begun]"));
    // The server knows the image that a question is about once the visit has begun: nobody can ask before.
    const inputs = document.getElementById("inputs");
    if (inputs && inputs.inert === begun) inputs.inert = !begun;
    if (!document.querySelector("#viewer .stage[data-shown]:not([data-shown=''])")) return;
    initial.remove();
    document.getElementById("initial-style")?.remove();
    if (begun) watcher.disconnect();
  };
  const watcher = new MutationObserver(compare);
  const shown = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-shown", "data-begun"] };
  watcher.observe(document.body, shown);
}
