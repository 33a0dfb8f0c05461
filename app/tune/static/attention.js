// Attention maps of the watched questions, step by step, from the run's news (see app.tune.runs.updates.run_news). Maps are
// float16 shares of the patches.

import { bytesOf, float16Of } from "../../common/static/base64.js";
import { make } from "../../common/static/dom.js";
import { paintMap } from "../../common/static/map_picture.js";
import { decoded } from "../../common/static/picture.js";

const percent = (value) => (100 * value).toFixed(1) + " %";

export function createAttention(element, colours) {
  const watched = element.querySelector(".watch");
  const slider = watched.querySelector("input[type=range]");
  const cards = watched.querySelector(".cards");
  const outline = watched.querySelector(".outline");
  const table = bytesOf(colours);
  let questions = [];
  let snapshots = []; // {step, maps, mass, right}, each of the last three with one entry for each question
  let steps = 0;
  let pictures = [];
  let timer = null;
  let following = true; // the last snapshot is on show, and whatever comes after it will be
  let drawn = true;

  function show(index) {
    const [first, now] = [snapshots[0], snapshots[index]];
    watched.querySelector("output").textContent = "step " + now.step + " of " + steps;
    watched.dataset.shown = now.step;
    questions.forEach((question, place) => {
      const card = cards.children[place];
      if (!pictures[place] || !card) return;
      const maps = { before: float16Of(first.maps[place]), now: float16Of(now.maps[place]) };
      // One scale for both pictures, so that brighter means more.
      const highest = Math.max(...maps.before, ...maps.now) || 1;
      const target = question.target && outline.checked ? float16Of(question.target) : null;
      for (const [name, snapshot] of [
        ["before", first],
        ["now", now],
      ]) {
        paintMap(
          card.querySelector("[data-map=" + name + "]"),
          question,
          pictures[place],
          maps[name],
          highest,
          table,
          target,
        );
        card.querySelector("[data-caption=" + name + "]").textContent = "step " + snapshot.step;
      }
      const mass = now.mass[place];
      card.querySelector(".inside").textContent =
        mass === null
          ? ""
          : percent(mass) + " of the attention inside (" + percent(first.mass[place]) + " at step " + first.step + ")";
      const verdict = card.querySelector(".verdict");
      verdict.textContent = now.right[place] ? "answers exactly so" : "does not answer so";
      verdict.className = "verdict " + (now.right[place] ? "right" : "wrong");
    });
  }

  function build() {
    const cardOf = ({ question, answer }) => {
      const figure = (name) =>
        make(
          "figure",
          {},
          make("canvas", { dataset: { map: name } }),
          make("figcaption", { dataset: { caption: name } }),
        );
      const facts = make("div", { className: "facts" }, make("div", { className: "question" }, question));
      facts.append(
        make("div", {}, make("b", { className: "answer" }, answer), " · ", make("span", { className: "verdict" })),
        make("div", { className: "inside" }),
      );
      return make(
        "div",
        { className: "card" },
        make("div", { className: "pair" }, figure("before"), figure("now")),
        facts,
      );
    };
    cards.replaceChildren(...questions.map(cardOf));
  }

  // News of another run, or of one that went back to a checkpoint, come whole.
  async function receive(news) {
    if (news.whole) {
      snapshots = [];
      if (!news.watched) [questions, pictures] = [[], []];
    }
    steps = news.steps;
    snapshots.push(...(news.snapshots || []));
    if (news.watched) {
      questions = news.watched.questions;
      pictures = [];
      following = true;
      build();
      const loaded = await Promise.all(news.watched.pictures.map(decoded));
      if (questions !== news.watched.questions) return; // newer ones came meanwhile
      pictures = loaded;
    }
    if (news.snapshots || news.watched || news.whole) refresh();
  }

  function refresh() {
    watched.hidden = !snapshots.length || !pictures.length;
    watched.dataset.snapshots = watched.hidden ? 0 : snapshots.length;
    if (watched.hidden) return;
    slider.max = snapshots.length - 1;
    if (following) slider.value = snapshots.length - 1;
    // What nobody sees is drawn when somebody comes.
    drawn = watched.offsetParent !== null;
    if (drawn) show(Number(slider.value));
  }

  slider.addEventListener("input", () => {
    following = Number(slider.value) === snapshots.length - 1;
    show(Number(slider.value));
  });
  outline.addEventListener("change", () => show(Number(slider.value)));
  watched.querySelector(".play").addEventListener("click", () => {
    clearInterval(timer);
    let index = 0;
    timer = setInterval(() => {
      if (index >= snapshots.length) {
        clearInterval(timer);
        return;
      }
      slider.value = index;
      show(index++);
    }, 350);
  });
  new IntersectionObserver(() => {
    if (!drawn) refresh();
  }).observe(watched);

  return { receive };
}
