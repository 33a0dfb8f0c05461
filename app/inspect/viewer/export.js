// Files with what is on show: a ZIP archive, or one page as PDF.

import { bytesOf } from "../../common/static/base64.js";
import { saveFile } from "../../common/static/dom.js";
import { answerOf } from "../../common/static/server.js";

export function createExport({ element, part, state, server, measures }) {
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

  async function save(form) {
    if (!state.views.length) return;
    part("exportSaid").textContent = "Drawing the figures …";
    buttons.forEach((button) => (button.disabled = true));
    const reply = await answerOf(server.take_file({ ...settings(), form }));
    buttons.forEach((button) => (button.disabled = false));
    part("exportSaid").textContent = reply.error || "Saved as " + reply.name + ".";
    if (!reply.error) saveFile(bytesOf(reply.file), reply.type, reply.name);
  }

  buttons.forEach((button) => button.addEventListener("click", () => save(button.dataset.export)));
}
