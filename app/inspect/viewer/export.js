// Files with what is on show: a ZIP archive, one page as PDF, or DICOM objects.

import { bytesOf } from "../../common/static/base64.js";
import { saveFile } from "../../common/static/dom.js";
import { answerOf } from "../../common/static/server.js";

export function createExport({ element, part, state, server, measures }, identity) {
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
      look: { ...state.display, levels: state.levels },
    };
  }

  const named = element.querySelector("[data-control=identity]");

  // Whose image it is goes into files only where that was asked for of this image.
  function receive(other) {
    part("identity").hidden = !(identity && state.data.image?.source);
    if (other || part("identity").hidden) named.checked = false;
  }

  async function save(form, objects) {
    if (!state.views.length) return;
    part("exportSaid").textContent = "Drawing the figures …";
    buttons.forEach((button) => (button.disabled = true));
    const reply = await answerOf(server.take_file({ ...settings(), form, objects, identity: named.checked }));
    buttons.forEach((button) => (button.disabled = false));
    part("exportSaid").textContent = reply.error || "Saved as " + reply.name + ".";
    if (!reply.error) saveFile(bytesOf(reply.file), reply.type, reply.name);
  }

  buttons.forEach((button) =>
    button.addEventListener("click", () => save(button.dataset.export, button.dataset.objects)),
  );
  return { receive };
}
