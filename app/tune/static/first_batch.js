// The first batch of a run as the model gets it (a3tune.training.first_batch): the pieces of each sequence, the picture
// after the processor.

import { make } from "../../common/static/dom.js";
import { count } from "../../common/static/format.js";

function pieceOf({ kind, text, tokens }) {
  if (kind === "image") return make("i", { className: kind }, `${tokens} image patches`);
  if (kind === "padding") return make("i", { className: kind }, `${tokens} of padding`);
  return make(kind === "learnt" ? "mark" : "span", { className: kind }, text);
}

export function showBatch(place, { size, questions, pictures }) {
  const cards = questions.map((question, number) => {
    const regions = question.known ? "the data's own marks" : count(question.regions, "weak label", "weak labels");
    const told = `${question.image}, target: ${regions}`;
    const text = make("p", {}, ...question.pieces.map(pieceOf));
    const picture = pictures[number] ? [make("img", { src: pictures[number], alt: told })] : [];
    return make("figure", {}, ...picture, make("figcaption", {}, told), text);
  });
  place.querySelector("summary").textContent = `First batch of ${size} questions, as the model gets it`;
  place.querySelector(".questions").replaceChildren(...cards);
  place.hidden = false;
}
