// Two sides, A and B: which views they show and how, their numbers, and the heads that moved most.

import { press, tableRow } from "../../common/static/dom.js";
import { percent } from "../../common/static/format.js";

export function createComparison(viewer) {
  const { element, part, state, server } = viewer;

  function setMode(mode, side) {
    if (!state.sideB) return;
    state.pair = { ...state.pair, mode, layout: mode, front: side || state.pair.front };
    changed();
  }

  const flip = () => setMode("one", state.front === state.sideB ? "a" : "b");

  // Another view, or another side, is on show: all panels that speak of the one in front.
  function changed() {
    const shown = state.comparing ? state.mode : state.front === state.sideB ? "b" : "a";
    element.querySelectorAll(".chip[data-compare]").forEach((chip) => {
      press(chip, chip.dataset.compare === shown);
      chip.disabled = !state.sideB && chip.dataset.compare !== "a";
    });
    viewer.answers.build();
    viewer.regionPanel.buildNumbers();
    viewer.place.build();
    viewer.experts.build();
    viewer.words.mark();
    viewer.draw();
  }

  function buildChoices() {
    const { views, pair, awaited } = state;
    for (const [name, place] of [
      ["sideA", pair.a],
      ["sideB", pair.b],
    ]) {
      const list = element.querySelector("[data-control=" + name + "]");
      list.replaceChildren(...views.map((view, index) => new Option(view.label, String(index))));
      if (name === "sideB") list.prepend(new Option(awaited || "nothing", "-1"));
      list.value = String(place);
      list.disabled = views.length < 2;
    }
    element.querySelector(".compare-tools").hidden = views.length < 2 && !awaited;
  }

  // Without an answer there is nothing to compare: the choices keep their place and say nothing.
  function rest() {
    for (const chip of element.querySelectorAll(".chip[data-compare]")) {
      press(chip, false);
      chip.disabled = true;
    }
    for (const name of ["sideA", "sideB"]) element.querySelector("[data-control=" + name + "]").disabled = true;
    build();
    viewer.place.build();
    viewer.experts.build();
  }

  function choosePair(a, b) {
    state.pair = { ...state.pair, a, b: b === a ? -1 : b, front: "a" };
    if (state.pair.b < 0) state.pair.mode = "one";
    const { of } = state.chosen;
    if (of && !state.both.includes(of)) state.chosen = { ...state.chosen, words: "answer", rows: [], of: null };
    // The next question is answered by these first.
    const adapters = state.both.map((view) => view.adapter);
    if (state.data.session) server.choose_pair({ session: state.data.session, adapters }).catch(() => null);
    show();
  }

  // All that the pair decides.
  function show() {
    buildChoices();
    viewer.words.build();
    changed();
  }

  const numbersOf = (view) => [...(state.numbersInRegions(view)?.rows || []), ...view.rows];

  function build() {
    const { sideA, sideB, regions } = state;
    part("compareHint").hidden = Boolean(sideB);
    part("compareBody").hidden = !sideB;
    part("compareRows").replaceChildren();
    buildMoved();
    if (!sideB) return;
    part("compareHeadA").textContent = "A · " + sideA.label;
    part("compareHeadB").textContent = "B · " + sideB.label;
    part("compareNote").textContent =
      "Critical heads of each, mean of the answer" +
      (regions.on.size ? "; inside " + insideWords() + "." : ". Switch regions on to measure attention inside.");
    const after = new Map(numbersOf(sideB).map(([key, , value]) => [key, value]));
    const rows = numbersOf(sideA).map(([key, name, value, title]) =>
      tableRow([name, value, after.get(key) || "", changeWords(value, after.get(key))], { title, dataset: { key } }),
    );
    part("compareRows").append(...rows);
  }

  // Each side inside the regions of its own question: those that are switched on, and the best of another question.
  function insideWords() {
    const others = state.both.filter((view) => state.numbersInRegions(view)?.inside);
    const told = others.map((view) => state.nameOf(view) + " inside " + state.numbersInRegions(view).inside);
    return [viewer.regionPanel.tickedWords(), ...told].join("; ");
  }

  function buildMoved() {
    part("movedRows").replaceChildren();
    const { sideA, sideB } = state;
    if (!sideB) return;
    // The same words on both sides: the answer's where both gave the same, else the question's.
    const words = state.chosen.words !== "question" && sideA.answer === sideB.answer ? "answer" : "question";
    const moved = movement(sideA, sideB, words);
    part("movedNote").textContent = moved
      ? "Total variation " + comparedWords(sideA, sideB, words)
      : "The two cannot be compared head by head.";
    if (!moved) return;
    const places = moved.map((_, place) => place).sort((a, b) => moved[b] - moved[a] || a - b);
    const [massA, massB] = [sideA, sideB].map(viewer.heads.mass);
    const shares = (before, after, place) => [before, after].map((numbers) => shareWords(numbers[place])).join(" → ");
    const rows = places
      .slice(0, 10)
      .map((place) =>
        tableRow([
          viewer.heads.link(Math.floor(place / sideA.heads), place % sideA.heads),
          percent(moved[place]),
          shares(sideA.ratio, sideB.ratio, place),
          massA && massB ? shares(massA, massB, place) : "",
        ]),
      );
    part("movedRows").append(...rows);
  }

  viewer.heads.followLinks(part("movedRows"));
  element
    .querySelector("[data-control=sideA]")
    .addEventListener("change", (event) => choosePair(Number(event.target.value), state.pair.b));
  element
    .querySelector("[data-control=sideB]")
    .addEventListener("change", (event) => choosePair(state.pair.a, Number(event.target.value)));
  element.querySelectorAll(".chip[data-compare]").forEach((chip) =>
    chip.addEventListener("click", () => {
      const { compare } = chip.dataset;
      if (compare === "a" || compare === "b") setMode("one", compare);
      else setMode(compare);
    }),
  );

  return { setMode, flip, choosePair, show, rest, build, buildMoved };
}

const shareWords = (value) => (value === null ? "–" : percent(value));

// From one number in words to another, in the unit that they have.
export function changeWords(before, after) {
  const [one, other] = [parseFloat(before), parseFloat(after)];
  if (!Number.isFinite(one) || !Number.isFinite(other)) return "";
  const change = other - one;
  const unit = (before.match(/[%×]/) || [""])[0];
  const sign = change > 0 ? "+" : change < 0 ? "−" : "±";
  return sign + Math.abs(change).toFixed(unit === "%" ? 1 : 2) + (unit ? " " + (unit === "%" ? "points" : unit) : "");
}

// Over which words two sides are compared, in words: `words` are those of the question or of the answer.
export function comparedWords(one, other, words) {
  const alike = one.question === other.question;
  if (words === "answer")
    return (
      "between the means over the words of the answer, the same " + (alike ? "on both sides." : "for both questions.")
    );
  if (alike) return "between the means over the words of the question, the same on both sides.";
  return "between the means over the words of two different questions: what is asked may move it more than who answers.";
}

// How far each head's attention moved: total variation between the two sides' mean maps of these words, with all that
// goes to text as one place; 0 is the same, 1 has nothing in common. Null where the two have other heads or patches.
export function movement(one, other, words) {
  const [before, after] = [one.headMeans[words], other.headMeans[words]];
  if (!before || !after || one.layers !== other.layers || one.heads !== other.heads || one.patches !== other.patches)
    return null;
  return Array.from({ length: one.layers * one.heads }, (_, place) => {
    let apart = 0;
    let share = 0;
    for (let j = place * one.patches; j < (place + 1) * one.patches; j++) {
      apart += Math.abs(after[j] - before[j]);
      share += after[j] - before[j];
    }
    return (apart + Math.abs(share)) / 2;
  });
}
