// How the map is drawn: on or off, on which scale, in which colours; what is rarely changed stands behind "More".

import { press } from "../../common/static/dom.js";

const OPENED = "a3tune-more";

export function createMapSwitch({ element, state, draw }) {
  const box = element.querySelector("[data-control=map]");

  function set(on) {
    state.display.map = box.checked = on;
    draw();
  }

  box.addEventListener("change", () => set(box.checked));
  return { set };
}

export function listenToMapControls({ element, part, state, draw }, names) {
  element.querySelector("[data-control=colours]").append(...names.map((name) => new Option(name)));
  state.display.colours = names[0];
  const controls = element.querySelectorAll(".map-tools [data-control], .words-panel [data-control=template]");
  const read = (control) => {
    if (control.type === "checkbox") return control.checked;
    if (control.dataset.control === "gamma") return 2 ** (-Number(control.value) / 50);
    return control.type === "range" ? Number(control.value) / 100 : control.value;
  };
  controls.forEach((control) =>
    control.addEventListener("input", () => {
      const name = control.dataset.control;
      if (name === "template") part("words").classList.toggle("with-template", control.checked);
      else state.display[name] = read(control);
      draw();
    }),
  );
  const own = element.querySelector("[data-action=ownScales]");
  own.addEventListener("click", () => {
    state.display.each = !state.display.each;
    press(own, state.display.each);
    draw();
  });
  listenToMore(element);
}

// A browser that keeps nothing for pages says so by an error.
function kept(change) {
  try {
    return change(window.localStorage);
  } catch {
    return null;
  }
}

function listenToMore(element) {
  const more = element.querySelector("[data-action=more]");
  const root = element.querySelector(".viewer");

  function show(open) {
    root.toggleAttribute("data-more", open);
    more.setAttribute("aria-expanded", String(open));
  }

  more.addEventListener("click", () => {
    const open = !root.hasAttribute("data-more");
    show(open);
    kept((storage) => (open ? storage.setItem(OPENED, "1") : storage.removeItem(OPENED)));
  });
  show(kept((storage) => storage.getItem(OPENED)) === "1");
}
