// Files with what is on show: a ZIP archive, one page as PDF, or DICOM objects.

import { bytesOf } from "../../common/static/base64.js";
import { saveFile } from "../../common/static/dom.js";
import { answerOf } from "../../common/static/server.js";

export function createExport({ element, part, state, server, measures }, identity, archive) {
  const buttons = element.querySelectorAll("[data-export]");

  // What the figures are drawn by.
  function settings() {
    const { heads, layer, head, words } = state.chosen;
    return {
      session: state.data.session,
      result: state.sideA.result,
      sides: state.both.map((view) => ({ result: view.result, adapter: view.adapter, rows: state.rowsOf(view) })),
      heads: heads === "head" ? [layer, head] : heads,
      words,
      regions: [...state.regions.on],
      measures: measures.drawn(),
      look: { ...state.display, ...place() },
    };
  }

  // How the sides are laid out, which part is on show, and through which grey levels: centre and width of grey values
  // from 0 to 255, or the window's name.
  function place() {
    const { mode, zoom, levels, pair } = state;
    return {
      shown: mode === "one" ? state.nameOf(state.front) : mode,
      ...(mode === "wipe" ? { wipe: pair.wipe } : {}),
      zoom: zoom.factor,
      zoomX: zoom.x,
      zoomY: zoom.y,
      ...(levels.preset ? { levels: levels.preset.name } : { levelCentre: levels.centre, levelWidth: levels.width }),
    };
  }

  const named = element.querySelector("[data-control=identity]");
  const stored = element.querySelector("[data-control=store]");
  part("archive").textContent = archive;

  // Whose image it is goes into files only where that was asked for of this image.
  function receive(other) {
    part("identity").hidden = !(identity && state.data.image?.source);
    if (other || part("identity").hidden) named.checked = false;
    showStoring();
  }

  // An archive takes no objects of nobody.
  function showStoring() {
    part("storing").hidden = !(archive && named.checked);
    if (part("storing").hidden) stored.checked = false;
  }

  named.addEventListener("change", showStoring);

  async function save(form, objects) {
    if (!state.views.length) return;
    const storing = form === "dicom" && stored.checked;
    const asked = { ...settings(), form, objects, identity: named.checked };
    part("exportSaid").textContent = "Drawing the figures …";
    buttons.forEach((button) => (button.disabled = true));
    const reply = await answerOf(storing ? server.store_file(asked) : server.take_file(asked));
    buttons.forEach((button) => (button.disabled = false));
    part("exportSaid").textContent = reply.error || reply.said || "Saved as " + reply.name + ".";
    if (reply.file) saveFile(bytesOf(reply.file), reply.type, reply.name);
  }

  buttons.forEach((button) =>
    button.addEventListener("click", () => save(button.dataset.export, button.dataset.objects)),
  );
  return { receive };
}
