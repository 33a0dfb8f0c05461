// The browser of questions: pictures with the maps of both sides, answers, and whether they are right.

import { bytesOf, float16Of } from "../../common/static/base64.js";
import { make } from "../../common/static/dom.js";
import { paintMap } from "../../common/static/map_picture.js";
import { decoded } from "../../common/static/picture.js";

const percent = (value) => (100 * value).toFixed(1) + " %";

// `open(number)` looks into a question; `colours` is the maps' colour map.
export function showItems(place, items, colours, open) {
  const table = bytesOf(colours);
  place.replaceChildren(...items.map((item) => cardOf(item, open)));
  return Promise.all(items.map((item, index) => drawMaps(place.children[index], item, table)));
}

function cardOf(item, open) {
  const pair = make("div", { className: "pair" });
  for (const side of item.sides)
    pair.append(make("figure", { dataset: { system: side.system } }, make("figcaption", {}, side.system)));
  const sides = item.sides.map((side) => {
    const right = side.prediction === null ? "none" : side.right ? "yes" : "no";
    const mark = { yes: "✓ ", no: "✗ ", none: "– " }[right];
    const mass = side.mass === null ? "" : ` ${percent(side.mass)} inside`;
    const told = [side.cell, side.gap].filter(Boolean).join("; ");
    return make(
      "div",
      { className: "side", dataset: { right } },
      `${side.system}: `,
      make("b", {}, mark + (side.prediction ?? "no answer")),
      make("small", { title: told }, mass + (side.gap ? " · gap" : "")),
    );
  });
  const button = make("button", { type: "button", className: "inspect" }, "Open in Inspect");
  button.disabled = !item.picture;
  button.addEventListener("click", () => open(item.number));
  const facts = make("div", { className: "facts" }, make("div", { className: "question" }, item.question));
  facts.append(
    make("div", {}, "Right: ", make("b", {}, item.answer)),
    ...sides,
    make("small", {}, item.id + " "),
    button,
  );
  return make("div", { className: "item", dataset: { number: item.number } }, pair, facts);
}

async function drawMaps(card, item, table) {
  if (!item.picture) {
    for (const figure of card.querySelectorAll("figure")) figure.prepend("The image is gone.");
    return;
  }
  const picture = await decoded(item.picture);
  const maps = item.sides.map((side) => (side.map ? float16Of(side.map) : null));
  // One scale for both, so that brighter means more.
  const highest = Math.max(1e-9, ...maps.flatMap((map) => (map ? [...map] : [])));
  const target = item.place?.target ? float16Of(item.place.target) : null;
  item.sides.forEach((side, index) => {
    const figure = card.querySelectorAll("figure")[index];
    if (!maps[index] || !item.place) {
      figure.prepend(make("img", { src: item.picture, alt: "" }));
      return;
    }
    const canvas = make("canvas", { dataset: { map: side.system } });
    paintMap(canvas, item.place, picture, maps[index], highest, table, target);
    figure.prepend(canvas);
  });
}
