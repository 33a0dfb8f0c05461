// Words of question and answer: which are chosen, and how much of their attention goes to the image.

function buildWords() {
  const holder = part("words");
  holder.replaceChildren();
  const result = data.result;
  const critical = maps.critical;
  const shares = result.tokens.map((token) => (token.row === null ? null : total(critical.subarray(token.row * result.patches, (token.row + 1) * result.patches))));
  let line = null;
  result.tokens.forEach((token, place) => {
    const group = token.role === "answer" ? "answer" : "question";
    if (!line || line.dataset.group !== group) {
      line = document.createElement("p");
      line.dataset.group = group;
      holder.append(line);
    }
    const word = document.createElement("button");
    word.type = "button";
    word.className = "word" + (token.special || token.role === "template" ? " template" : "");
    word.textContent = token.text.trim() || (token.text.includes("\n") ? "↵" : "␣");
    word.dataset.role = token.role;
    if (token.text.startsWith(" ")) word.classList.add("spaced");
    if (token.row === null) {
      word.disabled = true;
      word.title = "Stands before the image and cannot see it";
    } else {
      word.dataset.row = token.row;
      word.style.setProperty("--share", Math.min(1, shares[place]).toFixed(3));
      word.title = percent(shares[place]) + " of this word's attention in the critical heads goes to the image";
      word.setAttribute("aria-pressed", "false");
    }
    line.append(word);
  });
}

function chooseWords(words, rows) {
  chosen.words = words;
  chosen.rows = rows;
  element.querySelectorAll(".word[data-row]").forEach((word) => word.setAttribute("aria-pressed", String(rows.includes(Number(word.dataset.row)))));
  element.querySelectorAll("[data-words]").forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.words === words)));
  draw();
}

part("words").addEventListener("click", (event) => {
  const word = event.target.closest(".word[data-row]");
  if (!word) return;
  const row = Number(word.dataset.row);
  const more = event.shiftKey || event.ctrlKey || event.metaKey;
  const before = more && chosen.words === "own" ? chosen.rows : [];
  const rows = before.includes(row) && before.length > 1 ? before.filter((other) => other !== row) : [...new Set([...before, row])];
  chooseWords("own", rows);
});

element.querySelectorAll("[data-words]").forEach((chip) =>
  chip.addEventListener("click", () => chooseWords(chip.dataset.words, roleRows(chip.dataset.words))),
);

