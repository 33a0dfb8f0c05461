// Maps of one head for single words, fetched once when they are first shown.

import { float16Of } from "../../common/static/base64.js";
import { answerOf } from "../../common/static/server.js";

const NOT_SENT = { error: "The server did not send this head's map. Ask again." };

export function createHeadMaps({ server, state, draw }) {
  async function fetch(view) {
    const key = state.mapKey;
    const { heads, layer, head } = state.chosen;
    if (heads !== "head" || view.maps[key] || view.pending.has(key) || state.trouble) return;
    view.pending.add(key);
    const reply = await answerOf(
      server.head_map({ result: view.result, adapter: view.adapter, layer, head }),
      NOT_SENT,
    );
    view.pending.delete(key);
    if (reply.error) state.trouble = reply.error;
    else view.maps[key] = float16Of(reply.map);
    draw();
  }

  return { fetch };
}
