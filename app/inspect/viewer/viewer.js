// The viewer: one canvas, the words, the heads, and the panels under them. All of its parts share one object that holds
// the state and, by name, each other; what they do is in their own modules.

import { openThings } from "../../common/static/address.js";
import { bytesOf } from "../../common/static/base64.js";
import { explainTerms } from "../../common/static/terms.js";
import { chosenFiles } from "../static/sending.js";
import { createAhead } from "./ahead.js";
import { createAnswers } from "./answers.js";
import { createBoxTool } from "./box_tool.js";
import { createBrush } from "./brush.js";
import { createCanvas } from "./canvas.js";
import { createCaption } from "./caption.js";
import { createCine } from "./cine.js";
import { createComparison } from "./comparison.js";
import { createExperts } from "./experts.js";
import { createExport } from "./export.js";
import { createFaithfulness } from "./faithfulness.js";
import { createHeadMaps } from "./head_maps.js";
import { createHeads } from "./heads.js";
import { createHistory } from "./history.js";
import { listenToKeys } from "./keys.js";
import { createMapSwitch, listenToMapControls } from "./map_controls.js";
import { createMeasures } from "./measures.js";
import { createModelPicture } from "./model_picture.js";
import { createPlace } from "./place.js";
import { createLevelsTool, createPointerGestures } from "./pointer_gestures.js";
import { createReferenceMask } from "./reference_mask.js";
import { createRegionOutlines } from "./region_outlines.js";
import { createRegionPanel } from "./region_panel.js";
import { createRegions } from "./regions.js";
import { createSlices } from "./slices.js";
import { ViewState } from "./state.js";
import { createTabs } from "./tabs.js";
import { createUpdates } from "./updates.js";
import { createValues } from "./values_on_show.js";
import { createWindows } from "./windows.js";
import { createWipe } from "./wipe.js";
import { createWords } from "./words.js";

export default function mount(
  { element, props, server, trigger, watch },
  { colours, difference, glossary, presets, identity, archive },
) {
  const colourMaps = Object.fromEntries(Object.entries(colours).map(([name, table]) => [name, bytesOf(table)]));
  const viewer = {
    element,
    server,
    trigger,
    part: (name) => element.querySelector("[data-part=" + name + "]"),
    root: element.querySelector(".viewer"),
    stage: element.querySelector(".stage"),
    canvas: element.querySelector("canvas.picture"),
    state: new ViewState(),
    colourMaps,
    differenceMap: bytesOf(difference),
  };
  explainTerms(element, glossary);
  viewer.draw = createCanvas(viewer).draw;
  viewer.mapSwitch = createMapSwitch(viewer);
  viewer.headMaps = createHeadMaps(viewer);
  viewer.caption = createCaption(viewer);
  viewer.answers = createAnswers(viewer);
  viewer.words = createWords(viewer);
  viewer.heads = createHeads(viewer);
  viewer.comparison = createComparison(viewer);
  viewer.wipe = createWipe(viewer);
  viewer.tabs = createTabs(viewer);
  viewer.place = createPlace(viewer);
  viewer.experts = createExperts(viewer);
  viewer.regions = createRegions(viewer);
  viewer.regionPanel = createRegionPanel(viewer);
  viewer.outlines = createRegionOutlines(viewer);
  viewer.referenceMask = createReferenceMask(viewer);
  // The tools hear of a pointer in this order: a box or a brush that ends has gone before the click is looked at.
  viewer.brush = createBrush(viewer);
  viewer.box = createBoxTool(viewer);
  viewer.levels = createLevelsTool(viewer);
  viewer.values = createValues(viewer);
  viewer.windows = createWindows(viewer, presets);
  viewer.measures = createMeasures(viewer);
  viewer.ahead = createAhead(viewer);
  viewer.slices = createSlices(viewer);
  viewer.cine = createCine(viewer);
  viewer.pointer = createPointerGestures(viewer);
  viewer.faithfulness = createFaithfulness(viewer);
  viewer.history = createHistory(viewer);
  viewer.modelPicture = createModelPicture(viewer);
  viewer.exports = createExport(viewer, identity, archive);
  listenToKeys(viewer);
  listenToMapControls(viewer, Object.keys(colourMaps));

  openThings("inspect", (result) => trigger("reopen", { result, sent: chosenFiles() }));
  viewer.updates = createUpdates(viewer);
  // Until the server has sent something for this visit, what the page itself brought.
  const receive = () => viewer.updates.receive(props.value || document.getElementById("opening-value")?.textContent);
  watch("value", receive);
  receive();
}
