// What the server sends of itself: an image, or an image with a result (app.inspect.viewer.values.viewer_value), more
// words of the result on show (written_value), or what the visit adds to what the page brought (adopted_value).

import { keepInspection, tellThing } from "../../common/static/address.js";
import { decoded } from "../../common/static/picture.js";
import { AS_OPENED } from "./grey_levels.js";
import { WHOLE } from "./layout.js";
import { viewsOf } from "./result_views.js";
import { NOTHING, roleRows } from "./state.js";

export function createUpdates(viewer) {
  const { element, part, state, root, stage, canvas, trigger } = viewer;

  async function receive(text) {
    const next = text ? JSON.parse(text) : NOTHING;
    if (next.adopt) {
      adopt(next);
      return;
    }
    if (next.written) {
      write(next);
      return;
    }
    await show(next);
  }

  // More words of the answer that is on show, without the views that are here whole; of no use where another image or
  // result came meanwhile.
  function write({ written, session }) {
    const { result } = state.data;
    if (state.data.session !== session || result?.id !== written.id) return;
    const whole = result.views.slice(0, result.views.length - Number(result.writing));
    const views = written.views.map((view, place) => view || whole[place]);
    if (views.every(Boolean)) show({ ...state.data, result: { ...written, views } });
  }

  async function show(sent) {
    const { image, result, session } = state.data;
    const next = keepPage(sent);
    const sameImage = Boolean(image && next.image && image.src === next.image.src);
    const grows = Boolean(result && next.result && result.id === next.result.id && session === next.session);
    const before = { adapters: state.both.map((view) => view?.adapter), comparable: state.views.length > 1 };
    state.data = next;
    tellBegun();
    tellAddress(next.result?.id || "");
    state.trouble = "";
    showPanels();
    // From slice to slice of one volume the place and the grey levels stay.
    const walks = image && next.image && image.place === next.image.place;
    if (!sameImage && !(walks && image.frames > 1)) {
      state.zoom = WHOLE;
      state.levels = AS_OPENED;
      viewer.mapSwitch.set(true);
    }
    if (!grows) {
      viewer.faithfulness.clear();
      state.forgetPlace();
    }
    const earlier = grows ? state.views : [];
    state.views = next.result ? viewsOf(next.result, next.result) : [];
    // Until one head's map is fetched anew, that up to an earlier word stays on show.
    for (const view of state.views.filter((one) => one.writing)) {
      const began = earlier.find((one) => one.adapter === view.adapter);
      view.earlier = { ...began?.earlier, ...began?.maps };
    }
    if (next.result) showResult(grows, before);
    else leave();
    if (next === sent) viewer.regions.receive(grows);
    else viewer.regions.leave();
    viewer.slices.receive(!walks, sent.image?.frame);
    viewer.cine.receive();
    viewer.measures.receive(next.image);
    viewer.exports.receive(!walks);
    viewer.history.build();
    await showPicture(next);
    if (state.data === next) viewer.ahead.receive(next.image, state.picture);
    viewer.pointer.tell();
  }

  // The frame that the page has gone on to stays on show while the server tells of an earlier one on the way, or of an
  // answer about that.
  function keepPage(sent) {
    const { image } = state.data;
    const late = image && image.stack === sent.image?.stack && viewer.slices.isPast(sent.image.frame);
    return late ? { ...sent, image, result: null } : sent;
  }

  // Another frame of the same file, whose picture is there already; the server is told by others.
  function walkTo({ image, picture }) {
    const { result } = state.data;
    state.data = { ...state.data, image, result: null };
    Object.assign(state, { picture, pictureOf: image.src });
    if (result) {
      state.trouble = "";
      state.views = [];
      showPanels();
      viewer.faithfulness.clear();
      state.forgetPlace();
      leave();
    }
    viewer.regions.leave();
    viewer.measures.receive(image);
    viewer.modelPicture.receive(image).then(viewer.draw);
    viewer.draw();
    viewer.pointer.tell();
  }

  // No answer is on show any more, and nothing that speaks of one.
  function leave() {
    state.pair = { ...state.pair, a: 0, b: -1, mode: "one", front: "a" };
    viewer.comparison.rest();
  }

  function showPanels() {
    const { result, image } = state.data;
    viewer.referenceMask.receive(result);
    element.querySelectorAll(".legend, .map-tools, .side .panel").forEach((node) => (node.hidden = !result));
    element.querySelector(".guide").hidden = Boolean(result);
    root.dataset.state = result ? "result" : image ? "image" : "empty";
  }

  async function showPicture(next) {
    if (!next.image) {
      state.picture = null;
      state.pictureOf = part("imageLabel").textContent = part("imageLabel").title = "";
      viewer.modelPicture.receive(null);
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
      stage.dataset.shown = "";
      return;
    }
    const { src } = next.image;
    if (state.pictureOf !== src) {
      const picture = await decoded(src);
      // Another image may have come meanwhile, or more about this one, which counts on this picture.
      if (state.data.image?.src !== src) return;
      Object.assign(state, { picture, pictureOf: src });
    }
    await viewer.modelPicture.receive(next.image);
    viewer.draw();
  }

  // Only what the server sends for this visit has a region session: until then it knows of no image to ask about.
  const tellBegun = () => root.toggleAttribute("data-begun", Boolean(state.data.session));

  // What the page itself brought is no visitor's: it has no address.
  function tellAddress(shown) {
    const { result, session } = state.data;
    if (!session) return;
    tellThing("inspect", shown);
    keepInspection(result?.id || "", session);
  }

  // The visit begins with what the page brought: what was chosen meanwhile stays.
  function adopt({ adopt: result, session, history }) {
    if (state.data.result?.id !== result) {
      trigger("reopen", { result });
      return;
    }
    state.data = { ...state.data, session, history };
    tellBegun();
    tellAddress("");
    viewer.regions.receive(false);
    viewer.slices.receive(true, state.data.image?.frame);
    viewer.cine.receive();
    viewer.ahead.receive(state.data.image, state.shownPicture);
    viewer.history.build();
  }

  // The sides stay as they were chosen as long as those adapters answer; at first the base is A, and B comes after it.
  // How the two are shown is kept while the first answer waits for the second.
  function showResult(grows, before) {
    const { views, pair, chosen } = state;
    const place = (adapter) => views.findIndex((view) => view.adapter === adapter);
    const [a, b] = before.adapters.map(place);
    const kept = before.comparable && a >= 0 && (b === undefined || b >= 0);
    const { sideBySide } = state.data;
    state.pair = {
      ...pair,
      ...(grows ? {} : { mode: sideBySide ? "side" : pair.layout }),
      a: kept ? a : 0,
      b: kept ? (b ?? -1) : views.length > 1 ? 1 : -1,
      front: grows && kept ? pair.front : "a",
    };
    if (!grows) {
      const [layer, head] = state.sideA.critical[0];
      const words = state.data.result.writing || roleRows(state.sideA, "answer").length ? "answer" : "question";
      state.chosen = { heads: "critical", layer, head, words, rows: [], of: null };
    } else if (chosen.of) state.chosen = { ...chosen, of: views[place(chosen.of.adapter)] };
    nameSinks();
    viewer.comparison.show();
  }

  function nameSinks() {
    const most = Math.max(...state.views.map((view) => view.sinks.length));
    const here = state.sideA.sinks.length;
    element.querySelector("[data-control=sinks]").disabled = most === 0;
    part("sinks").textContent = most
      ? "Suppress " + here + (here === 1 ? " sink" : " sinks")
      : state.data.result.writing
        ? "Suppress sinks"
        : "No sinks found";
  }

  return { receive, walkTo };
}
