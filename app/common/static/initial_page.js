// Draws the page's head, the examples and the viewer from the components that Gradio is about to build, with their own
// modules, and goes away when the viewer that can be used has drawn the same. No module itself: it stands in the page,
// so that the theme is right before anything is painted.
{
  const first = document.getElementById("initial-page");
  const asked = new URL(location).searchParams.get("__theme");
  if (asked === "dark" || (asked !== "light" && matchMedia("(prefers-color-scheme: dark)").matches))
    first.classList.add("dark");
  const style = document.createElement("style");
  style.textContent = window.gradio_config.css || "";
  first.before(style);
  // No request is made from here: what would ask the server waits for ever, and is gone with the rest.
  const server = new Proxy({}, { get: () => () => new Promise(() => {}) });
  const propsOf = (name) => window.gradio_config.components.find((component) => component.props.elem_id === name).props;
  first.querySelector(".adapters").hidden = !propsOf("adapters").visible;
  for (const place of first.querySelectorAll("[data-of]")) {
    const name = place.dataset.of;
    const part = propsOf(name);
    place.innerHTML = part.html_template;
    const own = document.createElement("style");
    own.textContent = "#initial-page [data-of=" + name + "] {" + part.css_template + "}";
    place.before(own);
    const props = { ...part.props, value: part.value };
    new Function("element", "props", "server", "trigger", "watch", part.js_on_load)(
      place,
      props,
      server,
      () => {},
      () => {},
    );
  }
  first.querySelector(".model .text").textContent = "Opening the page …";
  const attend = () => {
    const begun = Boolean(document.querySelector("#viewer [data-begun]"));
    // The server knows the image that a question is about once the visit has begun: nobody can ask before.
    const inputs = document.getElementById("inputs");
    if (inputs && inputs.inert === begun) inputs.inert = !begun;
    if (!document.querySelector("#viewer .stage[data-shown]:not([data-shown=''])")) return;
    first.remove();
    style.remove();
    if (begun) watcher.disconnect();
  };
  const watcher = new MutationObserver(attend);
  watcher.observe(document.querySelector("gradio-app") || document.body, {
    subtree: true,
    childList: true,
    attributes: true,
    attributeFilter: ["data-shown", "data-begun"],
  });
}
