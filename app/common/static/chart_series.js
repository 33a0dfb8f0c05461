// Colours of what is drawn together in a chart, and the settings in which it differs.

import { make } from "./dom.js";

export const COLOURS = ["#0f9d8f", "#d9822b", "#7c6ee6", "#c2477f", "#5b8db8", "#8794a3"];

// A row for each setting (name -> a value for each of `titles`), in JSON; a dash where there is none.
export function fillSettings(table, settings, titles) {
  const cell = (tag, text) => make(tag, {}, text);
  const head = make("tr", {}, ...["setting that differs", ...titles].map((text) => cell("th", text)));
  const rows = Object.entries(settings).map(([name, values]) =>
    make(
      "tr",
      {},
      cell("td", name),
      ...values.map((value) => cell("td", value === null ? "–" : JSON.stringify(value))),
    ),
  );
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}
