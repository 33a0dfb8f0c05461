// The help: what each part of the page means, its keys, and the words of its glossary; all of it comes with the page.

import { make } from "./dom.js";
import { methodPictures } from "./method.js";

const PARTS = [
  ["Inspect", "Ask about an image. The answer comes with a map of where the model looked to write each word: bright is much attention, as a multiple of what an even map would give. Attention shows where it looked, not why it answered so."],
  ["Answers A and B", "The model without and with an adapter, or two questions about one image: side by side, by wipe, or as a difference, on one scale."],
  ["Several images", "One question about many images: a table with each answer and how much of the attention falls inside the regions, sorted by any column. A row opens its image."],
  ["Words and heads", "Click a word for its own map. The layers × heads overview shows which of the model's heads look at the image; click one to see what it alone sees."],
  ["Regions", "Structures found in the image and ranked by how well they fit the question: where the answer should come from. They are weak labels, found by other models, not ground truth."],
  ["Faithfulness", "Does the answer depend on what the map marks? Parts are hidden step by step, and weights are replaced by random ones."],
  ["Tune", "Train an adapter on a sample or on your own data: take it in, look at its regions, measure a step, start. The run goes on without this page and stands in the head of every tab."],
  ["Evaluate", "Ask every question of a data set, with each adapter, and read with intervals what changed."],
  ["Models", "What answers, and what finds and ranks regions, with what each needs of memory."],
  ["Privacy", "What is kept of you, where, for how long, and the button that forgets all of it."],
]; // prettier-ignore

const PAPER = "https://aclanthology.org/2025.acl-long.460/";

const method = () => [
  methodPictures(),
  make(
    "p",
    {},
    "A3Tune, ",
    make("a", { href: PAPER, target: "_blank", rel: "noreferrer" }, "the paper (ACL 2025)"),
    ".",
  ),
];

const entry = ([word, sentence]) => [make("dt", {}, word), make("dd", {}, sentence)];
const list = (entries) => make("dl", {}, ...entries.flatMap(entry));

// The keys stand beside the picture too, and are told once.
function keys() {
  const told = document.querySelector("#viewer [data-panel=keys] dl");
  return told ? told.cloneNode(true) : "";
}

// `button` opens the help, and so does "?" where nobody writes; `startTour` begins the tour.
export function listenToHelp(head, glossary, startTour) {
  const dialog = head.querySelector(".help-page");
  const button = head.querySelector(".help");

  function open() {
    if (dialog.open) return;
    dialog
      .querySelector(".help-body")
      .replaceChildren(
        make("h3", {}, "The parts"),
        list(PARTS),
        make("h3", {}, "The method, in five pictures"),
        ...method(),
        make("h3", {}, "Keys, while the picture has the focus"),
        keys(),
        make("h3", {}, "Words"),
        list(Object.entries(glossary)),
      );
    dialog.showModal();
  }

  button.addEventListener("click", open);
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.querySelector(".tour-again").addEventListener("click", () => {
    dialog.close();
    startTour();
  });
  // A click beside it closes it, as Escape does by itself.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || event.target.closest("input, textarea, select, [contenteditable=true]")) return;
    event.preventDefault();
    open();
  });
}
