// The Models tab. It asks the server what there is as long as it is on show; see app.models.values.catalogue_value.

import { make } from "../../common/static/dom.js";
import { answerOf } from "../../common/static/server.js";

const KINDS = { model: "Answers questions", segmenter: "Finds regions", scorer: "Ranks regions" };
const VERDICTS = {
  fits: "",
  tight: " More than is free now: it can still go well when the model in memory is let go.",
  large: " That is more than this machine has: choose fewer bits, a smaller model or a larger machine.",
};
const NO_ANSWER = {
  error: { got: "The server does not answer.", expected: "", remedy: "Reload the page when it is back." },
};

const same = (one, other) => one && other && one.kind === other.kind && one.key === other.key;

export default function mount({ element, server }) {
  const manager = element.querySelector(".manager");
  const find = (selector) => manager.querySelector(selector);
  let data = null;
  let chosen = null; // {kind, key}
  let typed = null; // an entry for a name that was typed
  let naming = 0; // how many names were typed: a late answer to an earlier one is let go
  let refused = null; // {kind, key, error} of a request that was not taken
  let precision = "auto";
  let timer = 0;

  function current() {
    return data.entries.find((entry) => same(entry, chosen)) || (same(typed, chosen) ? typed : data.entries[0]);
  }

  function badge(entry) {
    if (entry.current) return ["in use", "good"];
    const work = data.work;
    if (work && !work.over && same(work, entry)) return [work.stage === "loading" ? "loading" : "downloading", ""];
    return [entry.here ? "" : entry.gated ? "gated" : "not downloaded", ""];
  }

  function drawList() {
    const groups = find(".groups");
    const shape = JSON.stringify([
      data.entries.map((entry) => [entry.kind, entry.key]),
      typed && [typed.kind, typed.key],
    ]);
    if (groups.dataset.shape !== shape) {
      groups.dataset.shape = shape;
      groups.replaceChildren();
      for (const [kind, words] of Object.entries(KINDS)) {
        const items = make("div", { className: "items" });
        groups.append(make("section", { className: "group" }, make("h2", {}, words), items));
        const entries = data.entries.filter((entry) => entry.kind === kind);
        if (typed && typed.kind === kind && !entries.some((entry) => same(entry, typed))) entries.push(typed);
        for (const entry of entries) {
          const item = make("button", {
            className: "item",
            type: "button",
            dataset: { kind: entry.kind, key: entry.key },
          });
          item.append(make("b"), make("span"), make("small"));
          item.addEventListener("click", () => choose(entry));
          items.append(item);
        }
      }
    }
    for (const item of groups.querySelectorAll(".item")) {
      const place = { kind: item.dataset.kind, key: item.dataset.key };
      const entry = data.entries.find((known) => same(known, place)) || typed;
      const [words, tone] = badge(entry);
      const [title, mark, small] = item.children;
      title.textContent = entry.title;
      mark.textContent = words;
      mark.dataset.tone = tone;
      const need = (entry.kind === "model" || entry.page) && entry.needs.auto ? entry.needs.auto : {};
      const much = need.words && `needs ${need.words}${need.verdict === "large" ? ", more than there is" : ""}`;
      small.textContent =
        [entry.weights && `${entry.weights} parameters`, much].filter(Boolean).join(" · ") || entry.about;
      small.dataset.verdict = need.verdict || "unknown";
      item.setAttribute("aria-pressed", String(same(entry, current())));
    }
  }

  function drawPrecision(entry) {
    find(".precision").hidden = entry.kind !== "model";
    const choices = find(".choices");
    if (!choices.children.length) {
      for (const option of [{ key: "auto", title: "Automatic", obstacle: "" }, ...data.precisions]) {
        const radio = make("input", {
          type: "radio",
          name: "precision",
          value: option.key,
          disabled: Boolean(option.obstacle),
        });
        const label = make("label", { title: option.obstacle }, radio, make("span", {}, option.title));
        radio.addEventListener("change", () => {
          precision = option.key;
          draw();
        });
        choices.append(label);
      }
    }
    for (const radio of choices.querySelectorAll("input")) radio.checked = radio.value === precision;
    const usual = data.precisions.find((known) => known.key === entry.usual);
    choices.querySelector("input[value=auto] + span").textContent = usual ? `Automatic: ${usual.title}` : "Automatic";
    const reasons = new Map();
    for (const option of data.precisions.filter((known) => known.obstacle))
      reasons.set(option.obstacle, [...(reasons.get(option.obstacle) || []), option.title]);
    find(".obstacles").textContent = [...reasons]
      .map(([reason, titles]) => `${titles.join(", ")}: ${reason}.`)
      .join(" ");
    find(".offload input").disabled = Boolean(data.offload);
    find(".offload-obstacle").textContent = data.offload ? `${data.offload}.` : "";
  }

  function drawMemory(entry) {
    const need = entry.needs[entry.kind === "model" ? precision : "float32"] || { verdict: "unknown" };
    const memory = find(".memory");
    memory.hidden = entry.kind !== "model" && !entry.page; // small parts of the program itself
    memory.dataset.verdict = need.verdict;
    find(".bar i").style.width = `${Math.min(100, 100 * (need.share || 0))}%`;
    find(".memory .words").textContent =
      need.verdict === "unknown"
        ? `What it needs is known once its files are here. There are ${data.machine}.`
        : `Needs about ${need.words} of ${data.machine}.${VERDICTS[need.verdict]}`;
  }

  function drawFacts(entry) {
    const facts = [
      ["Files", entry.place],
      ["Parameters", entry.weights],
      ["Licence", entry.licence],
    ];
    const list = find(".facts");
    list.replaceChildren();
    for (const [name, words] of facts.filter((fact) => fact[1]))
      list.append(make("dt", {}, name), make("dd", {}, words));
    if (entry.page) {
      const link = make(
        "a",
        { href: entry.page, target: "_blank", rel: "noreferrer noopener" },
        entry.page.replace("https://", ""),
      );
      list.append(make("dt", {}, "Page"), make("dd", {}, link));
    }
  }

  function drawWork(entry) {
    const work = data.work;
    const busy = Boolean(work && !work.over);
    const loading = data.model.state === "loading";
    find(".load").disabled = busy || loading || Boolean(data.locked);
    find(".load").textContent = entry.here ? (entry.current ? "Load again" : "Load") : "Download and load";
    find(".download").hidden = entry.here;
    find(".download").disabled = busy || Boolean(data.locked);
    find(".cancel").hidden = Boolean(data.locked) || !(busy && work.stage === "fetching");
    find(".own").hidden = Boolean(data.locked);
    find(".work").hidden = !busy;
    if (busy) {
      const title = (data.entries.find((known) => same(known, work)) || { title: work.key }).title;
      find(".work .what").textContent =
        work.stage === "loading"
          ? `${title}: loading …`
          : `${title}: ${work.what.slice(0, 1).toLowerCase()}${work.what.slice(1)}`;
      find(".work .left").textContent = work.left;
      const bar = find(".work progress");
      if (work.stage === "loading") bar.removeAttribute("value");
      else bar.value = Math.round(1000 * work.share);
    }
    const outcome = find(".outcome");
    const told =
      refused && same(refused, entry)
        ? { tone: "bad", message: "Not taken.", error: refused.error }
        : work && work.over && same(work, entry)
          ? work
          : null;
    outcome.hidden = !told;
    if (told) {
      outcome.classList.toggle("bad", told.tone === "bad");
      outcome.setAttribute("role", told.tone === "bad" ? "alert" : "status");
      find(".message").textContent = told.message;
      const error = told.error || { got: "", expected: "", remedy: "" };
      find(".got").textContent = error.got;
      find(".expected").textContent = error.expected && `Expected: ${error.expected}`;
      find(".remedy").textContent = error.remedy && `What to do: ${error.remedy}`;
    }
  }

  function draw() {
    if (!data) return;
    manager.dataset.state = data.work && !data.work.over ? "busy" : "ready";
    find(".waiting").hidden = true;
    find(".columns").hidden = false;
    const entry = current();
    drawList();
    find(".title").textContent = entry.title;
    const [words, tone] = badge(entry);
    find(".badge").textContent = words;
    find(".badge").dataset.tone = tone;
    find(".about").textContent = entry.about;
    drawFacts(entry);
    find(".gate").hidden = !entry.gated || entry.here;
    find(".gate .page").href = entry.page || "";
    drawPrecision(entry);
    drawMemory(entry);
    find(".shared").textContent =
      data.locked ||
      (data.answering
        ? `${data.answering === 1 ? "A question is" : `${data.answering} questions are`} being answered right now. Loading waits for that; what is asked meanwhile waits for the new model.`
        : "One model is in memory for everybody on this page. Earlier results stay readable when it is replaced.");
    drawWork(entry);
    find(".hint").textContent = data.any_model
      ? "A folder on the serving machine, a hub id, or hub:OWNER/NAME/FILE for a checkpoint that finds regions."
      : "This page offers the ones above. Others can be loaded when whoever runs it starts it with --any-model.";
  }

  function choose(entry) {
    chosen = { kind: entry.kind, key: entry.key };
    if (!same(refused, chosen)) refused = null;
    draw();
    // In one column the list stands above: bring what was chosen into view.
    const detail = find(".detail");
    if (detail.getBoundingClientRect().top > window.innerHeight * 0.6)
      detail.scrollIntoView({ behavior: "smooth", block: "start" });
  }

  const ask = (name, request = {}) => answerOf(server[name](request), NO_ANSWER);

  async function act(action) {
    const entry = current();
    refused = null;
    const request = {
      action,
      kind: entry.kind,
      name: entry.key,
      precision: entry.kind === "model" ? precision : "auto",
      offload: find(".offload input").checked,
    };
    const reply = await ask("models_act", request);
    if (reply.error) refused = { kind: entry.kind, key: entry.key, error: reply.error };
    await refresh();
  }

  async function refresh() {
    clearTimeout(timer);
    if (element.offsetParent !== null && document.visibilityState === "visible") {
      const reply = await ask("models_state");
      if (reply.entries) {
        if (!data) {
          chosen = reply.entries.find((entry) => entry.current && entry.kind === "model") || reply.entries[0];
          precision = reply.choice.precision;
        }
        const ended = reply.work && reply.work.over && data && data.work && !data.work.over;
        data = reply;
        // What was fetched is here now, and its files tell its size.
        if (ended && same(typed, reply.work))
          typed = (await ask("models_named", { kind: typed.kind, name: typed.key })).entry || typed;
        draw();
      } else if (!data) {
        find(".waiting").textContent = reply.error.got;
      }
    }
    clearTimeout(timer);
    const busy = data && ((data.work && !data.work.over) || data.model.state === "loading");
    timer = setTimeout(refresh, busy || !data ? 700 : 3000);
  }

  find(".own").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const name = form.elements.name.value.trim();
    if (!name || !data) return;
    // Only what finds regions has a place within a repository.
    if (name.startsWith("hub:") && form.elements.kind.value === "model") form.elements.kind.value = "segmenter";
    const kind = form.elements.kind.value;
    const plain = name.toLowerCase();
    const fits = (entry) =>
      [entry.key, entry.title.toLowerCase()].includes(plain) ||
      entry.key === name ||
      (entry.page || "").endsWith(`/${name}`);
    const known = data.entries.find((entry) => entry.kind === kind && fits(entry)) || data.entries.find(fits);
    if (known) return choose(known);
    const mine = (naming += 1);
    const reply = await ask("models_named", { kind, name });
    if (mine !== naming) return undefined;
    typed = reply.entry || {
      kind,
      key: name,
      title: name,
      about: "A name that you typed.",
      licence: "",
      page: null,
      gated: false,
      weights: "",
      place: "",
      here: true,
      current: false,
      needs: {},
    };
    refused = reply.error ? { kind, key: name, error: reply.error } : null;
    return choose(typed);
  });
  find(".load").addEventListener("click", () => act("load"));
  find(".download").addEventListener("click", () => act("download"));
  find(".cancel").addEventListener("click", () => act("cancel"));
  refresh();
}
