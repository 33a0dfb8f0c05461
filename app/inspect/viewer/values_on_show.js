// The values of the picture on show, fetched when they are first wanted.

import { answerOf } from "../../common/static/server.js";
import { unpackValues } from "./pixel_values.js";

const MOST = 4;
// How long a pointer rests before it counts as looking, in milliseconds: who walks through slices looks at none.
const REST = 150;

export function createValues(viewer) {
  const { state, server } = viewer;
  const kept = new Map(); // values, or {error}, by place and frame
  const asking = new Set();
  let resting = 0;

  const keyOf = ({ place, frame }) => place + " " + frame;

  // Those of the picture on show; undefined where they are not there (yet).
  function current() {
    const { image } = state.data;
    const found = image && kept.get(keyOf(image));
    return found?.error ? undefined : found;
  }

  async function fetch() {
    const { image, session } = state.data;
    if (!image || !session || !viewer.slices.settled || viewer.cine.active) return;
    const key = keyOf(image);
    if (kept.has(key) || asking.has(key)) return;
    asking.add(key);
    const reply = await answerOf(server.values({ session }));
    const found = reply.error ? reply : await unpackValues(reply);
    asking.delete(key);
    kept.set(found.error ? key : keyOf(found), found);
    while (kept.size > MOST) kept.delete(kept.keys().next().value);
    viewer.draw();
    viewer.pointer.tell();
  }

  // Fetches them once the walk through the slices rests.
  function want() {
    clearTimeout(resting);
    resting = setTimeout(fetch, REST);
  }

  return {
    want,
    fetch,
    get current() {
      return current();
    },
    // Why there are none, in words.
    get trouble() {
      const { image } = state.data;
      return (image && kept.get(keyOf(image))?.error) || "";
    },
  };
}
