// Regions: found, ranked and drawn by the server; the target made of those switched on, and its numbers.

import { bytesOf } from "../../common/static/base64.js";
import { answerOf } from "../../common/static/server.js";
import { noRegions } from "./state.js";

export function createRegions(viewer) {
  const { element, part, state, server } = viewer;
  const promptField = element.querySelector("[data-control=prompt]");
  const smallField = element.querySelector("[data-control=small]");
  // Numbers of the last requests: older answers are of no use.
  let asked = 0;
  let measured = 0;
  let sought = ""; // the result for whose question regions were looked for

  // The words to rank for: the question that is being written, until there are others.
  const prompt = () =>
    promptField.value.trim() || document.querySelector("#question textarea, #question input")?.value || "";

  const update = (changes) => (state.regions = { ...state.regions, ...changes });

  async function ask(busy, words, call) {
    await viewer.slices.rest();
    const mine = ++asked;
    measured++;
    const { session } = state.regions;
    update({ state: busy, said: "", kept: "" });
    viewer.regionPanel.build();
    const reply = await answerOf(call({ session, prompt: words, small: smallField.checked }));
    if (mine !== asked || session !== state.regions.session) return;
    if (reply.error) {
      update({ state: "said", said: reply.error });
      viewer.regionPanel.build();
      return;
    }
    const kept = busy === "drawing" ? state.regions.on : null;
    const on = reply.rows
      .filter((row) => (kept ? kept.has(row.key) || row.key === reply.key : row.chosen))
      .map((row) => row.key);
    update({ ...reply, on: new Set(on), state: "ready", paths: pathsOf(reply.rows) });
    promptField.value = reply.prompt;
    viewer.regionPanel.build();
    if (kept || takenAlong().length) measure();
  }

  const find = (words) =>
    ask(state.regions.rows.length ? "ranking" : "finding", words, (request) => server.find_regions(request));
  const findWanted = () => find(prompt());
  const addBox = (box) => ask("drawing", prompt(), (request) => server.draw_region({ ...request, box }));
  const stop = () => server.stop_regions({ session: state.regions.session }).catch(() => null);

  // Results that were taken along for comparison are measured too.
  const takenAlong = () =>
    [...new Set(state.views.map((view) => view.result))].filter((result) => result !== state.data.result?.id);

  async function measure() {
    const { session, rows, on } = state.regions;
    if (!rows.length) return;
    const mine = ++measured;
    const reply = await answerOf(server.choose_regions({ session, chosen: [...on], others: takenAlong() }));
    if (mine !== measured || session !== state.regions.session) return;
    update({ numbers: reply.numbers || null, said: reply.error || "", kept: "" });
    viewer.regionPanel.buildNumbers();
  }

  async function keepTarget() {
    const { session, on } = state.regions;
    const reply = await answerOf(server.keep_target({ session, chosen: [...on] }));
    if (session !== state.regions.session) return; // another image is on show
    update({ said: reply.error || "", kept: reply.words || "" });
    const link = part("download");
    link.hidden = !reply.archive;
    if (reply.archive) {
      URL.revokeObjectURL(link.href);
      link.href = URL.createObjectURL(new Blob([bytesOf(reply.archive)], { type: "application/zip" }));
    }
    viewer.regionPanel.buildNumbers();
  }

  // An image came, or an answer about it (`grows`: more of the answer on show): the regions are looked for once the
  // first answer stands.
  function receive(grows) {
    const session = state.data.session || "";
    const walked = !state.regions.session; // the tools were put away when the walk began
    if (session !== state.regions.session) {
      asked++;
      measured++;
      state.regions = noRegions(session);
      promptField.value = "";
      viewer.outlines.hover("");
      if (!walked) viewer.box.stop();
    }
    element.querySelectorAll(".region-part").forEach((node) => (node.hidden = !session));
    const { result } = state.data;
    if (grows && sought === result.id) measure();
    else if (session && result && !result.writing) {
      sought = result.id;
      find(result.question);
    } else viewer.regionPanel.build();
  }

  // The page has gone on to another frame, of which the server will tell: nothing can be asked about this one yet.
  function leave() {
    if (!state.regions.session) return;
    asked++;
    measured++;
    state.regions = noRegions("");
    viewer.outlines.hover("");
    viewer.box.stop();
    viewer.regionPanel.build();
  }

  function choose(key, on) {
    if (on) state.regions.on.add(key);
    else state.regions.on.delete(key);
    viewer.regionPanel.buildNumbers();
    measure();
  }

  return { receive, leave, findWanted, addBox, stop, measure, keepTarget, choose };
}

// Contours (flat lists x, y, x, y, ...) as a path in source pixels.
export function pathOf(contours) {
  const made = new Path2D();
  for (const line of contours) {
    // Contours run through the middle of the border's pixels.
    for (let i = 0; i < line.length; i += 2) made[i ? "lineTo" : "moveTo"](line[i] + 0.5, line[i + 1] + 0.5);
    made.closePath();
  }
  return made;
}

// By the regions' keys.
const pathsOf = (rows) => new Map(rows.map((row) => [row.key, pathOf(row.contours)]));
