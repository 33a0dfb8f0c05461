// Two sides, A and B: which views they show and how, their answers, numbers, and the heads that moved most.

function setMode(mode, side) {
  if (!sideB()) return;
  pair = { ...pair, mode, front: side || pair.front };
  sideChanged();
}

function flip() {
  if (!sideB()) return;
  pair = { ...pair, mode: "one", front: front() === sideB() ? "a" : "b" };
  sideChanged();
}

// Another view, or another side, is on show: all panels that speak of the one in front.
function sideChanged() {
  const mode = comparing() ? pair.mode : front() === sideB() ? "b" : "a";
  element.querySelectorAll("[data-compare]").forEach((chip) => {
    chip.setAttribute("aria-pressed", String(chip.dataset.compare === mode));
    chip.disabled = !sideB() && chip.dataset.compare !== "a";
  });
  buildAnswers();
  buildHeads();
  buildNumbers();
  buildFocus();
  buildExperts();
  markWords();
  draw();
}

function buildChoices() {
  for (const [name, place, none] of [["sideA", pair.a, false], ["sideB", pair.b, true]]) {
    const list = element.querySelector("[data-control=" + name + "]");
    list.replaceChildren();
    if (none) list.append(new Option("nothing", "-1"));
    views.forEach((one, index) => list.append(new Option(one.label, String(index))));
    list.value = String(place);
    list.disabled = views.length < 2;
  }
  element.querySelector(".compare-tools").hidden = views.length < 2;
}

function choosePair(a, b) {
  pair = { ...pair, a, b: b === a ? -1 : b, front: "a" };
  if (pair.b < 0) pair.mode = "one";
  if (chosen.of && !both().includes(chosen.of)) chosen = { ...chosen, words: "answer", rows: [], of: null };
  buildChoices();
  buildWords();
  buildComparison();
  sideChanged();
}

// ---- answers --------------------------------------------------------------------------------------

function buildAnswers() {
  const holder = part("answers");
  holder.replaceChildren();
  const onlyHere = views.length ? differingRows() : [];
  both().forEach((one, side) => {
    if (!one) return;
    const block = document.createElement("div");
    block.className = "answer-of" + (one === front() ? " front" : "");
    if (sideB()) {
      const name = document.createElement("p");
      name.className = "fine";
      name.textContent = (side ? "B" : "A") + " · " + one.label;
      block.append(name);
    }
    const text = document.createElement("p");
    text.className = "answer";
    text.dataset.part = side ? "answerB" : "answer";
    const words = one.tokens.filter((token) => token.role === "answer" && isWord(token));
    // The words as the tokens have them, with those marked that the other side does not have; where the tokens do
    // not spell the answer (bytes of a letter), the answer as it is.
    if (sideB() && words.map((token) => token.text).join("").trim() === one.answer) {
      for (const token of words) {
        const piece = document.createElement(onlyHere[side].has(token.row) ? "mark" : "span");
        piece.textContent = token.text;
        text.append(piece);
      }
    } else text.textContent = one.answer || "(empty answer)";
    block.append(text);
    holder.append(block);
  });
  const adapters = both().filter(Boolean).map((one) => one.adapter).join(" and ");
  part("speaker").textContent = data.result ? modelWords() + ", adapter: " + adapters + ". " + data.result.notice : "";
}

// ---- numbers ---------------------------------------------------------------------------------------

function numbersOf(one) {
  const inside = regions.numbers?.views.find((item) => item.result === one.result && item.adapter === one.adapter);
  return [...(inside?.rows || []), ...one.rows];
}

function buildComparison() {
  const has = Boolean(sideB());
  part("compareHint").hidden = has;
  part("compareBody").hidden = !has;
  const body = part("compareRows");
  body.replaceChildren();
  part("movedRows").replaceChildren();
  if (!has) return;
  part("compareHeadA").textContent = "A · " + sideA().label;
  part("compareHeadB").textContent = "B · " + sideB().label;
  part("compareNote").textContent = regions.on.size ? "Critical heads of each, mean of the answer; inside " + regions.on.size + (regions.on.size === 1 ? " region." : " regions together.") : "Critical heads of each, mean of the answer. Switch regions on to measure attention inside.";
  const after = new Map(numbersOf(sideB()).map(([key, , value]) => [key, value]));
  for (const [key, name, value, meaning] of numbersOf(sideA())) {
    const line = document.createElement("tr");
    line.dataset.key = key;
    for (const text of [name, value, after.get(key) || "", changeWords(value, after.get(key))]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      line.append(cell);
    }
    line.title = meaning;
    body.append(line);
  }
  buildMoved();
}

function changeWords(before, after) {
  const [one, other] = [parseFloat(before), parseFloat(after)];
  if (!Number.isFinite(one) || !Number.isFinite(other)) return "";
  const change = other - one;
  const unit = (before.match(/[%×]/) || [""])[0];
  return (change > 0 ? "+" : change < 0 ? "−" : "±") + Math.abs(change).toFixed(unit === "%" ? 1 : 2) + (unit ? " " + (unit === "%" ? "points" : unit) : "");
}

// How far each head's attention moved: total variation between the two sides' mean maps of the same words, with all
// that goes to text as one place; 0 is the same, 1 has nothing in common.
function movement(words) {
  const [one, other] = both();
  const [before, after] = [one.headMeans[words], other.headMeans[words]];
  if (!before || !after || one.layers !== other.layers || one.heads !== other.heads || one.patches !== other.patches) return null;
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

function buildMoved() {
  const body = part("movedRows");
  body.replaceChildren();
  if (!sideB()) return;
  // The same words on both sides: the answer's where both gave the same, else the question's.
  const words = chosen.words !== "question" && sideA().answer === sideB().answer ? "answer" : "question";
  const moved = movement(words);
  part("movedNote").textContent = moved ? "Total variation, mean over the words of the " + words + ", which are the same on both sides." : "The two cannot be compared head by head.";
  if (!moved) return;
  const places = moved.map((_, place) => place).sort((a, b) => moved[b] - moved[a] || a - b);
  for (const place of places.slice(0, 10)) {
    const [layer, head] = [Math.floor(place / sideA().heads), place % sideA().heads];
    const line = document.createElement("tr");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.dataset.layer = layer;
    button.dataset.head = head;
    button.textContent = "Layer " + layer + ", head " + head;
    const change = (numbers) => (numbers ? percentOr(numbers[place]) : "");
    const cells = [button, percent(moved[place]), change(sideA().ratio) + " → " + change(sideB().ratio)];
    const [massA, massB] = [headMass(sideA()), headMass(sideB())];
    cells.push(massA && massB ? change(massA) + " → " + change(massB) : "");
    for (const content of cells) {
      const cell = document.createElement("td");
      cell.append(content);
      line.append(cell);
    }
    body.append(line);
  }
}

const percentOr = (value) => (value === null ? "–" : percent(value));

part("movedRows").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) chooseHeads("head", Number(button.dataset.layer), Number(button.dataset.head));
});
element.querySelector("[data-control=sideA]").addEventListener("change", (event) => choosePair(Number(event.target.value), pair.b));
element.querySelector("[data-control=sideB]").addEventListener("change", (event) => choosePair(pair.a, Number(event.target.value)));
element.querySelectorAll("[data-compare]").forEach((chip) =>
  chip.addEventListener("click", () => {
    const wanted = chip.dataset.compare;
    if (wanted === "a" || wanted === "b") setMode("one", wanted);
    else setMode(wanted);
  }),
);

// ---- the wipe's handle -------------------------------------------------------------------------------

function setWipe(share) {
  pair.wipe = Math.max(0, Math.min(1, share));
  draw();
}

let wiping = false;
part("wipe").addEventListener("pointerdown", (event) => {
  event.stopPropagation();
  wiping = true;
  part("wipe").setPointerCapture(event.pointerId);
});
part("wipe").addEventListener("pointermove", (event) => {
  if (!wiping) return;
  const box = stage.getBoundingClientRect();
  setWipe((event.clientX - box.left) / box.width);
});
for (const name of ["pointerup", "pointercancel"]) part("wipe").addEventListener(name, () => (wiping = false));
part("wipe").addEventListener("keydown", (event) => {
  const change = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
  if (!change) return;
  event.preventDefault();
  event.stopPropagation();
  setWipe(pair.wipe + change);
});

// ---- tabs under the picture ----------------------------------------------------------------------------

function chooseTab(name) {
  element.querySelectorAll("[role=tab]").forEach((tab) => {
    const here = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", String(here));
    tab.tabIndex = here ? 0 : -1;
  });
  element.querySelectorAll("[role=tabpanel]").forEach((panel) => (panel.hidden = panel.dataset.panel !== name));
}
element.querySelectorAll("[role=tab]").forEach((tab, place, all) => {
  tab.addEventListener("click", () => chooseTab(tab.dataset.tab));
  tab.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    const next = all[(place + move + all.length) % all.length];
    chooseTab(next.dataset.tab);
    next.focus();
  });
});
