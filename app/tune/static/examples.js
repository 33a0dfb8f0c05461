// The validation questions that the adapter of the best step answers best and worst
// (a3tune.training.validation_examples), each with the map of its reference answer.

import { make } from "../../common/static/dom.js";
import { percent } from "../../common/static/format.js";

export function showExamples(place, { step, questions, pictures }) {
  const cards = questions.map((question, number) => {
    const told = `${question.kind}: ${question.image}`;
    const picture = pictures[number] ? [make("img", { src: pictures[number], alt: told })] : [];
    const answers = make("p", {}, question.question, make("br"), "Right: ", make("b", {}, question.answer));
    answers.append(make("br"), "Says: ", make("b", {}, (question.right ? "✓ " : "✗ ") + question.prediction));
    const inside = question.mass === null ? "" : `; ${percent(question.mass)} of the attention inside`;
    const numbers = make(
      "small",
      {},
      `probability of the right answer's words ${percent(question.probability)}${inside}`,
    );
    return make(
      "figure",
      { dataset: { kind: question.kind } },
      ...picture,
      make("figcaption", {}, told),
      answers,
      numbers,
    );
  });
  place.querySelector("summary").textContent = `Best and worst validation questions at step ${step}`;
  place.querySelector(".questions").replaceChildren(...cards);
  place.hidden = false;
}
