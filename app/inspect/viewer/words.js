// Words of question and answer: which are chosen, and how much of their attention goes to the image.

// How much of each word's attention in the critical heads goes to the image, or to the place that was pointed out.
function wordShares(one) {
  const critical = one.maps.critical;
  return one.tokens.map((token) => {
    if (token.row === null) return null;
    const row = critical.subarray(token.row * one.patches, (token.row + 1) * one.patches);
    return focus.weights ? inFocus(row) : total(row);
  });
}

function buildWords() {
  const holder = part("words");
  holder.replaceChildren();
  if (!views.length) return;
  const sides = both();
  const onlyHere = differingRows();
  sides.forEach((one, side) => {
    const shares = wordShares(one);
    const most = focus.weights ? Math.max(...shares.filter((share) => share !== null), 1e-9) : 1;
    const repeats = side === 1 && one.question === sides[0].question;
    let line = null;
    one.tokens.forEach((token, place) => {
      const group = token.role === "answer" ? "answer" : "question";
      if (repeats && group === "question") return; // the same words in the same places
      if (!line || line.dataset.group !== group) {
        line = document.createElement("p");
        line.dataset.group = group;
        if (sides.length > 1) {
          const name = document.createElement("span");
          name.className = "side-name";
          name.textContent = group === "question" && one.question === sides[1 - side].question ? "A B" : side ? "B" : "A";
          line.append(name);
        }
        holder.append(line);
      }
      const word = document.createElement("button");
      word.type = "button";
      word.className = "word" + (token.special || token.role === "template" ? " template" : "");
      word.textContent = token.text.trim() || (token.text.includes("\n") ? "↵" : "␣");
      word.dataset.role = token.role;
      word.dataset.side = side;
      if (token.text.startsWith(" ")) word.classList.add("spaced");
      if (token.row === null) {
        word.disabled = true;
        word.title = "Stands before the image and cannot see it";
      } else {
        word.dataset.row = token.row;
        word.style.setProperty("--share", Math.min(1, shares[place] / most).toFixed(3));
        word.classList.toggle("differs", onlyHere[side].has(token.row));
        word.title = percent(shares[place]) + " of this word's attention in the critical heads goes to " + (focus.weights ? focus.label : "the image");
        if (onlyHere[side].has(token.row)) word.title += "; only " + (side ? "B" : "A") + " has it";
      }
      line.append(word);
    });
  });
  markWords();
}

// Rows of the words of the answers that the other side does not have, per side.
function differingRows() {
  const [one, other] = both();
  if (!other) return [new Set()];
  const answers = [one, other].map((side) => side.tokens.filter((token) => token.role === "answer" && isWord(token)));
  const same = alignment(...answers.map((tokens) => tokens.map((token) => token.text.trim())));
  return answers.map((tokens, side) => new Set(tokens.filter((_, place) => !same.some((found) => found[side] === place)).map((token) => token.row)));
}

function chooseWords(words, rows = [], of = null) {
  chosen = { ...chosen, words, rows, of };
  markWords();
  buildMoved();
  draw();
}

function markWords() {
  const rows = both().map((one) => new Set(rowsOf(one)));
  element.querySelectorAll(".word[data-row]").forEach((word) => {
    const side = Number(word.dataset.side);
    // The question stands once where both sides have the same: pressed when either shows it.
    word.setAttribute("aria-pressed", String(rows[side].has(Number(word.dataset.row))));
  });
  element.querySelectorAll("[data-words]").forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.words === chosen.words)));
}

part("words").addEventListener("click", (event) => {
  const word = event.target.closest(".word[data-row]");
  if (!word) return;
  const row = Number(word.dataset.row);
  const of = both()[Number(word.dataset.side)];
  const more = event.shiftKey || event.ctrlKey || event.metaKey;
  const before = more && chosen.words === "own" && chosen.of === of ? chosen.rows : [];
  const rows = before.includes(row) && before.length > 1 ? before.filter((other) => other !== row) : [...new Set([...before, row])];
  chooseWords("own", rows, of);
});

element.querySelectorAll("[data-words]").forEach((chip) => chip.addEventListener("click", () => chooseWords(chip.dataset.words)));
