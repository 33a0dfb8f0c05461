// Says which model speaks and which of the visitor's runs are at work, asking the server once a second until the model
// has come and every few seconds from then on; when another model has taken its place, says so and tells the page.

import { make } from "./dom.js";
import { answerOf } from "./server.js";
import { visitor } from "./visitor.js";

import { followAddress } from "./address.js";
import { holdPresses } from "./file_field.js";
import { listenToHelp } from "./help.js";
import { listenToKeyboard } from "./keyboard.js";
import { listenToTheme } from "./theme.js";
import { createTour, showInvitation } from "./tour.js";

const NO_SERVER = { state: "loading", name: "", text: "The server does not answer." };

async function isSignedOut() {
  const answer = await fetch(new URL("gradio_api/app_id", document.baseURI)).catch(() => null);
  return answer?.status === 401;
}

export default function mount({ element, server, trigger }, { notice, glossary }) {
  const head = element.querySelector(".studio-head");
  const changed = head.querySelector(".changed");
  let known = null;
  let person = null;
  head.querySelector(".notice").textContent = notice;
  changed.querySelector("button").addEventListener("click", () => {
    changed.hidden = true;
  });

  function show(reply) {
    head.dataset.state = reply.state;
    head.querySelector(".name").textContent = reply.name;
    head.querySelector(".text").textContent = reply.text;
    showPerson(reply);
    if (reply.runs) showRuns(reply.runs);
    if (reply.unheard) trigger("unheard");
    if (reply.notice) head.querySelector(".notice").textContent = reply.notice;
    if (reply.state === "loading" || reply.number === undefined) return;
    if (known !== null && reply.number !== known) {
      changed.querySelector("span").textContent =
        `The model was replaced: ${reply.name} answers from now on. Results that you have stay readable under History.`;
      changed.hidden = false;
      trigger("switched", { number: reply.number });
    }
    known = reply.number;
  }

  function showPerson(reply) {
    if (reply === NO_SERVER) return;
    person = reply.person;
    const form = head.querySelector(".person");
    form.hidden = !person;
    if (!person) return;
    form.action = new URL("logout", document.baseURI);
    form.querySelector("span").textContent = `${person} · ${reply.role}`;
    form.querySelector("button").hidden = !reply.leaves;
  }

  // Each is a way to it. What did not change stays as it is: it may have the focus.
  function showRuns(runs) {
    const row = head.querySelector(".runs");
    const told = JSON.stringify(runs);
    if (row.dataset.told === told) return;
    const focused = row.contains(document.activeElement) ? document.activeElement.hash : null;
    row.dataset.told = told;
    row.hidden = runs.length === 0;
    row.replaceChildren(...runs.map(chipOf));
    if (focused) [...row.children].find((chip) => chip.hash === focused)?.focus();
  }

  function chipOf({ address, title, share, left, batch }) {
    const done = share > 0 ? Math.round(100 * share) + " % · " : "";
    const chip = make(
      "a",
      { className: "run-chip", href: "#" + address, title: "Open " + title },
      make("b", {}, title),
      make("span", {}, done + left),
    );
    chip.style.setProperty("--share", share);
    // The table of many images stands beside what else its tab shows.
    if (batch)
      chip.addEventListener("click", () => document.dispatchEvent(new CustomEvent("open-batch", { detail: batch })));
    return chip;
  }

  async function ask() {
    if (document.visibilityState === "visible" || known === null) {
      const reply = await answerOf(server.model_status({ visitor: visitor() }), NO_SERVER);
      show(reply);
      // What is on show goes with the login, on a machine that others use too.
      if (person && reply === NO_SERVER && (await isSignedOut())) location.reload();
    }
    setTimeout(ask, head.dataset.state === "loading" ? 1000 : 3000);
  }
  ask();
  showInvitation(head);
  if (element.closest("#initial-page")) return;
  listenToTheme(head.querySelector(".theme"));
  followAddress();
  holdPresses();
  listenToKeyboard();
  listenToHelp(head, glossary, createTour(head).start);
}
