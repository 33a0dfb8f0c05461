// A place that is pointed out, by a region or a brush: which words and heads look there.

import { make, tableRow } from "../../common/static/dom.js";
import { percent } from "../../common/static/format.js";
import { borderOf, detailedTiles, patchesOf, total } from "../../common/static/patches.js";
import { headMap } from "./state.js";
import { isWord } from "./word_alignment.js";

const MOST_ROWS = 8;

export function createPlace(viewer) {
  const { element, part, state, canvas } = viewer;

  // The share of a map's attention that goes to the place.
  const share = (values) => values.reduce((sum, value, patch) => sum + value * state.place.weights[patch], 0);

  const meansOf = (view) => (view.headMeans.answer ? "answer" : "question");

  // Each head's share of attention on the place, mean of the answer (of the question where there is no answer).
  function headShares(view) {
    const means = view.headMeans[meansOf(view)];
    const { weights } = state.place;
    if (!weights || !means || weights.length !== view.patches) return null;
    return Array.from({ length: view.layers * view.heads }, (_, place) =>
      share(means.subarray(place * view.patches, (place + 1) * view.patches)),
    );
  }

  function changed() {
    viewer.words.build();
    viewer.heads.build();
    build();
    viewer.draw();
  }

  function set(weights, label, key) {
    state.place = { weights, label, key };
    viewer.tabs.choose("place");
    viewer.heads.show("place");
    changed();
  }

  function clear() {
    if (!state.place.weights) return;
    state.forgetPlace();
    changed();
  }

  // A region is pointed out, or no more where it was.
  function toggleRegion(region) {
    if (!state.data.result) return;
    if (state.place.key === region.key) return clear();
    set(
      patchShares(canvas.getContext("2d"), state.regions.paths.get(region.key), state.front),
      "region " + region.rank,
      region.key,
    );
  }

  function draw(context, view, { x, y, scale, ratio }) {
    const weights = viewer.brush.weights(view) || state.place.weights;
    if (!weights || weights.length !== view.patches) return;
    const chosen = (patch) => weights[patch] >= 0.5;
    context.save();
    context.fillStyle = "rgb(255 255 255 / .2)";
    context.strokeStyle = "rgb(255 255 255 / .85)";
    context.lineWidth = ratio;
    for (const tile of detailedTiles(view.tiles)) {
      for (const at of patchesOf(tile))
        if (chosen(at.patch)) context.fillRect(x + at.x * scale, y + at.y * scale, at.width * scale, at.height * scale);
      context.beginPath();
      for (const [x0, y0, x1, y1] of borderOf(tile, chosen)) {
        context.moveTo(x + x0 * scale, y + y0 * scale);
        context.lineTo(x + x1 * scale, y + y1 * scale);
      }
      context.stroke();
    }
    context.restore();
  }

  function build() {
    const { weights, label } = state.place;
    const has = Boolean(weights && state.views.length);
    part("placeHint").hidden = has;
    part("placeBody").hidden = !has;
    if (!has) return;
    const view = state.front;
    const area = total(weights) / view.patches;
    part("placeNote").textContent =
      "Who looks at " +
      label +
      " (" +
      percent(area) +
      " of the patches), " +
      view.label +
      ". “× chance” is against attention spread evenly over the image.";
    const chance = (inside, whole) => (whole && area ? inside / (whole * area) : 0);
    const words = viewer.words.shares(view).flatMap((inside, place) => {
      const token = view.tokens[place];
      if (!isWord(token)) return [];
      const textContent = token.text.trim() + (token.role === "answer" ? " (answer)" : "");
      const link = make("button", { type: "button", className: "link", textContent, dataset: { row: token.row } });
      const map = view.maps.critical.subarray(token.row * view.patches, (token.row + 1) * view.patches);
      return [{ inside, chance: chance(inside, total(map)), link }];
    });
    const heads = (headShares(view) || []).map((inside, place) => {
      const [layer, head] = [Math.floor(place / view.heads), place % view.heads];
      return {
        inside,
        chance: chance(inside, total(headMap(view, layer, head, meansOf(view)))),
        link: viewer.heads.link(layer, head),
      };
    });
    for (const [name, found] of [
      ["placeWords", words],
      ["placeHeads", heads],
    ]) {
      const most = found.sort((a, b) => b.inside - a.inside).slice(0, MOST_ROWS);
      part(name).replaceChildren(
        ...most.map((item) => tableRow([item.link, percent(item.inside), item.chance.toFixed(2) + " ×"])),
      );
    }
  }

  part("placeWords").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) viewer.words.choose("own", [Number(button.dataset.row)], state.front);
  });
  viewer.heads.followLinks(part("placeHeads"));
  element.querySelector("[data-action=clearPlace]").addEventListener("click", clear);

  return { build, draw, set, clear, toggleRegion, share, headShares };
}

// The share of each patch that a path in source pixels covers, from five by five points of the patch.
function patchShares(context, path, view) {
  const weights = new Float32Array(view.patches);
  context.save();
  context.resetTransform();
  for (const tile of view.tiles)
    for (const { patch, x, y, width, height } of patchesOf(tile)) {
      let inside = 0;
      for (let point = 0; point < 25; point++) {
        const [u, v] = [((point % 5) + 0.5) / 5, (Math.floor(point / 5) + 0.5) / 5];
        inside += context.isPointInPath(path, x + u * width, y + v * height, "evenodd");
      }
      weights[patch] = inside / 25;
    }
  context.restore();
  return weights;
}
