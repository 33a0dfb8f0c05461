// Draws the stage: the image, maps, what is pointed out and outlined, the legend and the names of the panes.

import { multiple, signedPercent, percent } from "../../common/static/format.js";
import { largest } from "../../common/static/patches.js";
import { colourAt, placeOnScale } from "./colour_scale.js";
import { drawLetters, roomFor } from "./edge_letters.js";
import { AS_OPENED, createToner, inGrey, isAsOpened, levelWords } from "./grey_levels.js";
import { drawHeatMap } from "./heat_map.js";
import { isStacked, panesOf, placementIn } from "./layout.js";
import { keepBarClear, showScaleBar } from "./scale_bar.js";

export function createCanvas(viewer) {
  const { element, part, state, stage, canvas, colourMaps, differenceMap } = viewer;
  const toned = createToner();
  let queued = false;

  function draw() {
    if (queued) return;
    queued = true;
    // The first picture does not wait for a frame: Gradio's own modules would run before it.
    const soon = stage.dataset.shown ? requestAnimationFrame : queueMicrotask;
    soon(() => {
      queued = false;
      drawNow();
    });
  }

  const pixelRatio = () => window.devicePixelRatio || 1;

  // How many pixels the canvas needs for the room that it has on the page.
  function sizeOnPage() {
    const box = canvas.getBoundingClientRect();
    const [width, height] = [box.width, box.height].map((side) => Math.max(1, Math.round(side * pixelRatio())));
    return { width, height };
  }

  const fits = ({ width, height }) => canvas.width === width && canvas.height === height;

  // The panes that have a name: both that are compared, or the one of several that is in front.
  const namedViews = () => (state.comparing ? state.both : state.views.length > 1 ? [state.front] : []);

  // What decides how much room the canvas has; told before it is asked for, or the picture would be drawn twice.
  function tellRoom() {
    const { image } = state.data;
    stage.toggleAttribute("data-named", namedViews().length > 0);
    stage.dataset.layout = modeToBe();
    stage.style.setProperty("--tallness", image.height / image.width);
  }

  // The panes with the view and the placement of each, in canvas pixels.
  function layOut() {
    tellRoom();
    const ratio = pixelRatio();
    const size = sizeOnPage();
    if (!fits(size)) Object.assign(canvas, size);
    const { width, height } = size;
    const room = roomFor(state.data.image) * ratio;
    return panesOf(state.mode, width, height, state.pair.wipe, ratio, room).map((pane) => ({
      ...pane,
      view: state.side(pane.side),
      place: { ...placementIn(pane.frame, state.data.image, state.zoom), ratio },
    }));
  }

  function drawNow() {
    const { data, shownPicture, views, zoom } = state;
    if (!shownPicture) return;
    const values = viewer.values.current;
    const levels = state.showsModelPicture ? AS_OPENED : inGrey(state.levels, data.image.window, values);
    const began = performance.now();
    const panes = layOut();
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    // Both sides' maps are fetched, since both are measured for the scale.
    if (views.length) for (const view of state.both) if (state.mapOf(view).waits) viewer.headMaps.fetch(view);
    const notes = new Map(); // why a view's pane has no map
    let waits = false;
    let legend = null;
    for (const pane of panes) {
      context.save();
      context.beginPath();
      context.rect(pane.clip.x, pane.clip.y, pane.clip.width, pane.clip.height);
      context.clip();
      context.imageSmoothingEnabled = true;
      const { x, y, scale } = pane.place;
      const drawn = toned(shownPicture, levels, data.image.window, values);
      context.drawImage(drawn, x, y, data.image.width * scale, data.image.height * scale);
      if (pane.view && state.display.map) {
        dim(context, pane.place);
        const shown = drawMap(context, pane);
        legend = shown.legend || legend;
        waits = waits || Boolean(shown.waits);
        if (shown.missing && !shown.waits) notes.set(shown.of || pane.view, shown.missing);
      }
      if (pane.view) viewer.place.draw(context, pane.view, pane.place);
      viewer.outlines.draw(context, pane.place, pane.view);
      viewer.referenceMask.draw(context, pane.place);
      viewer.box.draw(context, pane.place);
      context.restore();
    }
    // Both sides of a wipe are one picture.
    const whole = { x: 0, y: 0, width: canvas.width, height: canvas.height };
    for (const pane of state.mode === "wipe" ? [{ ...panes[0], clip: whole }] : panes) drawOver(context, pane);
    nameImage(data.image, levels);
    namePanes(notes);
    if (views.length) tellLegend(legend);
    part("zoom").textContent = [
      zoom.factor === 1 ? "" : Math.round(100 * zoom.factor) + " %",
      levelWords(levels, data.image.window),
    ]
      .filter(Boolean)
      .join(" · ");
    showScaleBar(part("scaleBar"), data.image, panes[0].place.scale / panes[0].place.ratio);
    keepBarClear(part);
    viewer.measures.tell();
    viewer.caption.show(notes);
    tellState(waits);
    stage.dataset.tookMs = (performance.now() - began).toFixed(1);
  }

  // What stands over picture and map: measures, and letters beside the picture.
  function drawOver(context, { place, frame, clip }) {
    const { image } = state.data;
    context.save();
    context.beginPath();
    context.rect(clip.x, clip.y, clip.width, clip.height);
    context.clip();
    viewer.measures.draw(context, place, frame);
    if (image.edges) drawLetters(context, image.edges, frame, image, place);
    context.restore();
  }

  // The picture steps back behind the map, which is to be the brightest thing on it.
  function dim(context, { x, y, scale }) {
    context.fillStyle = "rgb(0 0 0 / " + state.display.dim + ")";
    context.fillRect(x, y, state.data.image.width * scale, state.data.image.height * scale);
  }

  // A pane's map, or its patches' experts; with what its legend is.
  function drawMap(context, pane) {
    const { view, place, difference } = pane;
    if (state.experts.on && !difference) {
      if (!state.showsExperts(view)) return { missing: "has no experts to show" };
      viewer.experts.draw(context, view, place);
      return { legend: { experts: true } };
    }
    const shown = difference ? state.difference() : state.multiplesOf(view);
    if (!shown.values) return shown;
    const colours = difference
      ? { lut: differenceMap, signed: true, top: largest(shown.values.map(Math.abs)) }
      : { lut: colourMaps[state.display.colours], signed: false, top: state.topOfScale(view) };
    const legend = { ...state.display, ...colours };
    drawHeatMap(context, shown.values, view.tiles, state.data.image, place, legend);
    return { ...shown, legend };
  }

  // How the sides are shown, or will be when the second one has come.
  const modeToBe = () => (state.awaited ? state.pair.mode : state.mode);

  // What the colours on the picture mean; nothing where there are none.
  function tellLegend(legend) {
    const isScale = Boolean(legend?.lut);
    element.querySelector(".legend").classList.toggle("bare", !isScale);
    const ownScales = element.querySelector("[data-action=ownScales]");
    ownScales.hidden = !["side", "wipe"].includes(modeToBe()) || !isScale;
    ownScales.disabled = !state.sideB;
    part("legendUnit").textContent = unitWords(legend);
    if (!isScale) return;
    const { top, signed } = legend;
    part("legendLow").textContent = signed ? signedPercent(-top) : "0";
    part("legendMiddle").textContent = signed ? "0" : multiple(top / 2);
    part("legendHigh").textContent = signed ? "+" + percent(top) : multiple(top);
    const strip = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) {
      const { colour, strength } = placeOnScale((signed ? i / 127.5 - 1 : i / 255) * top, legend);
      strip.data.set([...colourAt(legend.lut, colour), strength || signed ? 255 : 0], 4 * i);
    }
    element.querySelector("canvas.ramp").getContext("2d").putImageData(strip, 0, 0);
  }

  function unitWords(legend) {
    if (!state.display.map) return "Map off (key M)";
    if (!legend) return "No map on the picture";
    if (legend.experts) return "Colours: key experts of layer " + state.experts.layer + ", listed under Experts";
    if (legend.signed) return "B − A, of the word's attention, per patch";
    const unit = "times what an even map would give each patch";
    if (!state.sideB && !state.awaited) return unit;
    if (!state.display.each || !state.sideB) return unit + "; one scale for A and B";
    const tops = state.both.map((view) => state.nameOf(view) + " up to " + multiple(state.topOfScale(view)));
    return unit + "; own scales: " + tops.join(", ");
  }

  // Named with the drawing: at no time does it name another picture than the one that is there. Where the eye has other
  // grey levels, which stand below, those of the label are what the model reads.
  function nameImage({ label: { what, window, size } }, levels) {
    const opened = window && !isAsOpened(levels) ? "opened at " + window : window;
    const words = [what, opened, size].filter(Boolean).join("\n");
    part("imageLabel").textContent = words.replaceAll("\n", " · ");
    part("imageLabel").title = words;
  }

  function namePanes(notes) {
    const { comparing, pair } = state;
    const named = namedViews();
    for (const [place, name] of ["paneA", "paneB"].entries()) {
      const label = part(name);
      const view = named[place];
      label.hidden = !view;
      if (!view) continue;
      const own = state.display.each && comparing ? " · own scale" : "";
      const words = state.nameOf(view) + " · " + view.label + (notes.has(view) ? " · " + notes.get(view) : own);
      label.textContent = state.mode === "difference" ? (place ? "red: more in " : "blue: more in ") + words : words;
      label.dataset.side = comparing ? (place ? "right" : "left") : "middle";
      label.title = label.textContent;
      label.toggleAttribute("data-cut", label.hasAttribute("data-whole") || label.scrollWidth > label.clientWidth);
    }
    const handle = part("wipe");
    handle.hidden = state.mode !== "wipe";
    handle.style.left = "calc((100% - var(--beside, 0px)) * " + pair.wipe + ")";
    handle.setAttribute("aria-valuenow", Math.round(100 * pair.wipe));
  }

  // The stage says what it shows, for its style and for whoever waits until it is drawn.
  function tellState(waits) {
    const { result, image } = state.data;
    const rows = state.views.length ? state.rowsOf(state.front) : [];
    stage.dataset.shown = result ? [state.mapKey, rows.join("+"), waits ? "waiting" : "ready"].join(" ") : "image";
    stage.dataset.compare = state.mode;
    stage.toggleAttribute("data-stacked", isStacked(state.mode, canvas.width, canvas.height));
    stage.toggleAttribute("data-letters", Boolean(image.edges));
    stage.dataset.picture = state.showsModelPicture ? "model" : "eye";
    // One finger scrolls the page where there is nothing to pan: on a tablet the image fills most of it.
    stage.toggleAttribute("data-zoomed", state.zoom.factor > 1);
    stage.toggleAttribute("data-walks", Boolean(viewer.slices?.several));
    stage.dataset.front = state.views.length ? state.front.adapter : "";
    stage.dataset.result = result ? result.id + (result.complete ? " complete" : "") : "";
    if (state.pictureOf === image.src) stage.dataset.session = state.data.session || "";
  }

  // A name for which there is no room is shown whole by a tap, and cut again by the next.
  for (const label of [part("paneA"), part("paneB")]) {
    for (const kind of ["pointerdown", "dblclick"]) label.addEventListener(kind, (event) => event.stopPropagation());
    label.addEventListener("click", () => {
      label.toggleAttribute("data-whole");
      draw();
    });
  }

  // It is told at first too, when all may be drawn already.
  new ResizeObserver(() => fits(sizeOnPage()) || draw()).observe(canvas);
  return { draw };
}
