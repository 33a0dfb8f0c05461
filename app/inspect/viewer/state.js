// What is on show: everything but single heads' maps is already here, so changing word, head set, adapter or colours
// asks the server for nothing.

import { fillSinks, largest, meanOfRows, total } from "../../common/static/patches.js";
import { AS_OPENED } from "./grey_levels.js";
import { WHOLE } from "./layout.js";
import { counterparts, isWord } from "./word_alignment.js";

export const NOTHING = { image: null, result: null, session: "", history: [] };
const NO_PLACE = { weights: null, label: "", key: "" };
const NO_REGIONS = {
  session: "",
  rows: [],
  on: new Set(),
  paths: new Map(),
  numbers: null,
  state: "none",
  said: "",
  kept: "",
};

export const noRegions = (session) => ({ ...NO_REGIONS, on: new Set(), session });

export class ViewState {
  data = NOTHING;
  // Decoded pictures, with the address that each was decoded from: of the image, and of what the model was given where
  // that is another picture.
  picture = null;
  pictureOf = "";
  modelPicture = null;
  modelPictureOf = "";
  showsModelPicture = false;
  views = []; // all that can be compared: the views of the result on show, then those of results taken along
  // b is -1 where there is nothing to compare with; layout: the mode that answers begin with, the reader's last choice
  pair = { a: 0, b: -1, mode: "one", layout: "side", front: "a", wipe: 0.5 };
  chosen = { heads: "critical", layer: 0, head: 0, words: "answer", rows: [], of: null };
  zoom = WHOLE;
  levels = AS_OPENED;
  trouble = ""; // why a map could not be fetched
  display = {
    opacity: 0.85,
    threshold: 0,
    gamma: 1,
    colours: "",
    scale: "own",
    each: false, // every side on a scale of its own
    dim: 0.45,
    smooth: true,
    sinks: false,
    grid: false,
    reference: true, // the outline of the reference mask
    map: true,
  };
  regions = noRegions("");
  place = NO_PLACE; // pointed out by a region or a brush; weights: share of each patch that belongs to it
  experts = { on: false, layer: 0 };

  // The picture to draw; null until that of the image on show is decoded.
  get shownPicture() {
    const { image } = this.data;
    if (!image) return null;
    if (this.showsModelPicture) return this.modelPictureOf === image.modelSrc ? this.modelPicture : null;
    return this.pictureOf === image.src ? this.picture : null;
  }

  get sideA() {
    return this.views[this.pair.a];
  }

  get sideB() {
    return this.pair.b < 0 ? null : this.views[this.pair.b];
  }

  get both() {
    return this.sideB ? [this.sideA, this.sideB] : [this.sideA];
  }

  // The adapter whose answer becomes side B and has not begun: until it does, everything keeps its place.
  get awaited() {
    return this.views.length === 1 ? this.data.result.awaited?.[0] : undefined;
  }

  get front() {
    return this.pair.front === "b" && this.sideB ? this.sideB : this.sideA;
  }

  // How the two sides are shown: "one" where only one of them is.
  get mode() {
    return this.sideB ? this.pair.mode : "one";
  }

  get comparing() {
    return this.mode !== "one";
  }

  get mapKey() {
    const { heads, layer, head } = this.chosen;
    return heads === "head" ? layer + "." + head : heads;
  }

  side(name) {
    return { a: this.sideA, b: this.sideB, front: this.front }[name];
  }

  nameOf(view) {
    return view === this.sideB && view !== this.sideA ? "B" : "A";
  }

  forgetPlace() {
    this.place = NO_PLACE;
  }

  rowsOf(view) {
    const { words, rows, of } = this.chosen;
    if (words !== "own") return roleRows(view, words);
    if (view === of || !of) return rows;
    const same = counterparts(of, view);
    return rows.map((row) => same.get(row)).filter((row) => row !== undefined);
  }

  // A view's map as {values, even, map, share, rows}, `even` what each patch would have of an even map, or {missing: why} where there is none; it `waits` where it can be asked for.
  mapOf(view) {
    const { words, heads, layer, head } = this.chosen;
    const rows = this.rowsOf(view);
    if (!rows.length) return { missing: words === "own" ? "has no such word" : "has no " + words };
    const map = view.maps[this.mapKey];
    const earlier = view.earlier?.[this.mapKey];
    const read = earlier ? rows.filter((row) => (row + 1) * view.patches <= earlier.length) : [];
    let values;
    if (map) values = meanOfRows(map, rows, view.patches);
    else if (read.length) values = meanOfRows(earlier, read, view.patches);
    else if (heads === "head" && view.headMeans[words]) values = headMap(view, layer, head, words);
    else return { missing: this.trouble || "loading", waits: !this.trouble };
    const share = total(values);
    if (this.display.sinks) values = fillSinks(values, view.sinks);
    return { values, even: share / view.patches, map, share, rows, ...(!map && read.length ? { waits: true } : {}) };
  }

  // The same as multiples of an even map, for drawing.
  multiplesOf(view) {
    const shown = this.mapOf(view);
    return shown.values
      ? { ...shown, values: shown.values.map((value) => (shown.even ? value / shown.even : 0)) }
      : shown;
  }

  difference() {
    const [before, after] = [this.mapOf(this.sideA), this.mapOf(this.sideB)];
    const lacking = before.values ? [after, this.sideB] : [before, this.sideA];
    if (lacking[0].missing) return { ...lacking[0], of: lacking[1] };
    if (before.values.length !== after.values.length) return { missing: "the two have other patches" };
    return { values: after.values.map((value, patch) => value - before.values[patch]) };
  }

  // The highest multiple of an even map on a view's scale: one scale for all that is compared, so that equal multiples
  // have equal colours on both sides, or its own.
  topOfScale(view) {
    return Math.max(0, ...(this.display.each ? [view] : this.both).map((side) => this.#highest(side)));
  }

  #highest(view) {
    const shown = this.multiplesOf(view);
    if (!shown.values) return 0;
    if (this.display.scale === "own" || !shown.map) return largest(shown.values);
    const skip = new Set(this.display.sinks ? view.sinks.map(([sink]) => sink) : []);
    let most = 0;
    for (const { row } of view.tokens.filter(isWord)) {
      const values = shown.map.subarray(row * view.patches, (row + 1) * view.patches);
      const even = total(values) / view.patches;
      values.forEach((value, patch) => {
        if (even && !skip.has(patch)) most = Math.max(most, value / even);
      });
    }
    return most;
  }

  // Whether experts are laid over this view: they are on, and it has some.
  showsExperts(view) {
    return this.experts.on && Boolean(view.experts?.first);
  }

  numbersInRegions(view) {
    return this.regions.numbers?.views.find((item) => item.result === view.result && item.adapter === view.adapter);
  }
}

export const roleRows = (view, role) =>
  view.tokens.filter((token) => token.role === role && isWord(token)).map((token) => token.row);

// One head's mean over the words of the question or the answer.
export function headMap(view, layer, head, words) {
  const start = (layer * view.heads + head) * view.patches;
  return view.headMeans[words].subarray(start, start + view.patches);
}
