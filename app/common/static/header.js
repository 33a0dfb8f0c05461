// Says which model speaks, asking the server once a second until it has come and every few seconds from then on; when
// another one has taken its place, says so and tells the page.

import { answerOf } from "./server.js";

const NO_SERVER = { state: "loading", name: "", text: "The server does not answer." };

export default function mount({ element, server, trigger }, { notice }) {
  const head = element.querySelector(".studio-head");
  const changed = head.querySelector(".changed");
  let known = null;
  head.querySelector(".notice").textContent = notice;
  changed.querySelector("button").addEventListener("click", () => {
    changed.hidden = true;
  });

  function show(reply) {
    head.dataset.state = reply.state;
    head.querySelector(".name").textContent = reply.name;
    head.querySelector(".text").textContent = reply.text;
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

  async function ask() {
    if (document.visibilityState === "visible" || known === null) {
      show(await answerOf(server.model_status(), NO_SERVER));
    }
    setTimeout(ask, head.dataset.state === "loading" ? 1000 : 3000);
  }
  ask();
}
