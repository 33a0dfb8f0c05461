// Draws the page's head, the examples and the viewer from the components that Gradio is about to build, with their own
// scripts, and goes away when the viewer that can be used has drawn the same.
{
  const first = document.getElementById("first-look");
  const asked = new URL(location).searchParams.get("__theme");
  if (asked === "dark" || (asked !== "light" && matchMedia("(prefers-color-scheme: dark)").matches)) first.classList.add("dark");
  const style = document.createElement("style");
  style.textContent = window.gradio_config.css || "";
  first.before(style);
  // No request is made from here: what would ask the server waits for ever, and is gone with the rest.
  const server = new Proxy({}, { get: () => () => new Promise(() => {}) });
  for (const place of first.querySelectorAll("[data-of]")) {
    const name = place.dataset.of;
    const part = window.gradio_config.components.find((component) => component.props.elem_id === name).props;
    place.innerHTML = part.html_template;
    const own = document.createElement("style");
    own.textContent = "#first-look [data-of=" + name + "] {" + part.css_template + "}";
    place.before(own);
    const props = { ...part.props, value: part.value };
    new Function("element", "props", "server", "trigger", "watch", part.js_on_load)(place, props, server, () => {}, () => {});
  }
  first.querySelector(".model .text").textContent = "Opening the page …";
  const leave = () => {
    if (!document.querySelector("#viewer .stage[data-shown]:not([data-shown=''])")) return;
    watcher.disconnect();
    first.remove();
    style.remove();
  };
  const watcher = new MutationObserver(leave);
  watcher.observe(document.querySelector("gradio-app") || document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-shown"] });
}
