// Words of question and answer: which are chosen, and how much of their attention goes to the image.

import { make, press } from "../../common/static/dom.js";
import { percent } from "../../common/static/format.js";
import { total } from "../../common/static/patches.js";
import { differingRows } from "./word_alignment.js";

export function createWords(viewer) {
  const { element, part, state } = viewer;

  // How much of each word's attention in the critical heads goes to the image, or to the place that is pointed out.
  function shares(view) {
    return view.tokens.map((token) => {
      if (token.row === null) return null;
      const row = view.maps.critical.subarray(token.row * view.patches, (token.row + 1) * view.patches);
      return state.place.weights ? viewer.place.share(row) : total(row);
    });
  }

  function build() {
    const holder = part("words");
    holder.replaceChildren();
    if (!state.views.length) return;
    const sides = state.both;
    const onlyHere = differingRows(sides);
    sides.forEach((view, side) => {
      const found = shares(view);
      const most = state.place.weights ? Math.max(...found.filter((share) => share !== null), 1e-9) : 1;
      const other = sides[1 - side];
      let line = null;
      view.tokens.forEach((token, place) => {
        const group = token.role === "answer" ? "answer" : "question";
        const alike = group === "question" && other?.question === view.question;
        if (alike && side === 1) return; // the same words in the same places
        if (line?.dataset.group !== group) {
          line = make("p", { dataset: { group } });
          const name = alike || (state.awaited && group === "question") ? "A B" : side ? "B" : "A";
          if (other || state.awaited) line.append(make("span", { className: "side-name", textContent: name }));
          holder.append(line);
        }
        const word = button(token, side, found[place], found[place] / most, onlyHere[side].has(token.row));
        if (alike) word.dataset.both = "";
        line.append(word);
      });
    });
    // The room of words that have not begun.
    if (state.awaited)
      holder.append(
        make(
          "p",
          { dataset: { group: "answer" } },
          make("span", { className: "side-name", textContent: "B" }),
          make("span", { className: "word", textContent: "…" }),
        ),
      );
    mark();
  }

  function button(token, side, share, level, differs) {
    const words = ["word"];
    if (token.special || token.role === "template") words.push("template");
    if (token.text.startsWith(" ")) words.push("spaced");
    const textContent = token.text.trim() || (token.text.includes("\n") ? "↵" : "␣");
    const word = make("button", {
      type: "button",
      className: words.join(" "),
      textContent,
      dataset: { role: token.role, side },
    });
    if (token.row === null) {
      word.disabled = true;
      word.title = "Stands before the image and cannot see it";
      return word;
    }
    word.dataset.row = token.row;
    word.style.setProperty("--share", Math.min(1, level).toFixed(3));
    word.classList.toggle("differs", differs);
    const where = state.place.weights ? state.place.label : "the image";
    word.title = percent(share) + " of this word's attention in the critical heads goes to " + where;
    if (differs) word.title += "; only " + (side ? "B" : "A") + " has it";
    return word;
  }

  function choose(words, rows = [], of = null) {
    state.chosen = { ...state.chosen, words, rows, of };
    mark();
    viewer.comparison.buildMoved();
    viewer.draw();
  }

  function mark() {
    const rows = state.both.map((view) => new Set(state.rowsOf(view)));
    // The question stands once where both sides have the same: pressed when either shows it.
    element
      .querySelectorAll(".word[data-row]")
      .forEach((word) => press(word, rows[Number(word.dataset.side)].has(Number(word.dataset.row))));
    element.querySelectorAll("[data-words]").forEach((chip) => press(chip, chip.dataset.words === state.chosen.words));
  }

  part("words").addEventListener("click", (event) => {
    const word = event.target.closest(".word[data-row]");
    if (!word) return;
    const row = Number(word.dataset.row);
    const of = state.both[Number(word.dataset.side)];
    // A word of one side alone is looked at on that side.
    if (!state.comparing && word.dataset.both === undefined && of !== state.front)
      viewer.comparison.setMode("one", word.dataset.side === "1" ? "b" : "a");
    const more = event.shiftKey || event.ctrlKey || event.metaKey;
    const before = more && state.chosen.words === "own" && state.chosen.of === of ? state.chosen.rows : [];
    const rows =
      before.includes(row) && before.length > 1
        ? before.filter((other) => other !== row)
        : [...new Set([...before, row])];
    choose("own", rows, of);
  });
  element
    .querySelectorAll("[data-words]")
    .forEach((chip) => chip.addEventListener("click", () => choose(chip.dataset.words)));

  return { build, mark, choose, shares };
}
