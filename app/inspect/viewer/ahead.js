// Pictures of the frames near the one on show, decoded before anybody steps there.

import { bytesOf } from "../../common/static/base64.js";
import { answerOf } from "../../common/static/server.js";

// How many frames further pictures are fetched, before anybody walks and on a walk, which lasts until nobody has stepped
// for so many milliseconds; how many are asked for in one go, and how many bytes of pixels they may take in the browser.
const REACH = 12;
const REACH_ON_A_WALK = 40;
const WALK = 3000;
const BATCH = 6;
const MOST_BYTES = 256 * 2 ** 20;

const RGBA = 4;

// How many frames of this size may be kept.
export const capacity = ({ width, height }) => Math.max(3, Math.floor(MOST_BYTES / (width * height * RGBA)));

const around = (frame, count, loops) => (loops ? ((frame % count) + count) % count : frame);

// The frames to ask for next, most wanted first: the one that is gone to unless it is `coming` otherwise, then those in
// the direction of travel, and one in three behind. `heading` is {frame, count, direction, loops, coming}, `held` has the
// frames that are there.
export function nextFrames(held, { frame, count, direction, loops, coming = true }, reach, batch = BATCH) {
  const wanted = [frame];
  for (let step = 1; step <= reach; step++) {
    wanted.push(frame + direction * step);
    if (step % 3 === 0) wanted.push(frame - direction * (step / 3));
  }
  const frames = wanted.map((one) => around(one, count, loops)).filter((one) => one >= 0 && one < count);
  return [...new Set(frames)].filter((one) => !(coming && one === frame) && !held.has(one)).slice(0, batch);
}

// Whether frames are to be asked for now: several in one go cost the server little more than one, so that a single one
// can wait until it is near.
export function isDue(frames, { frame, count, loops }) {
  const distance = (one) => Math.abs(one - frame);
  const near = (one) => (loops ? Math.min(distance(one), count - distance(one)) : distance(one)) <= BATCH;
  return frames.length >= BATCH / 2 || frames.some(near);
}

// The frames to give up so that no more than `most` stay: the furthest, in a loop those last to come.
export function framesToDrop(held, { frame, count, direction, loops }, most) {
  const distance = (one) =>
    loops ? around(direction * (one - frame), count, true) : Math.abs(one - frame) + (direction * (one - frame) < 0);
  return [...held].sort((one, other) => distance(other) - distance(one)).slice(0, Math.max(0, held.length - most));
}

// A picture from its data URL, decoded beside the page's own work and kept so.
const decoded = (src) => createImageBitmap(new Blob([bytesOf(src.slice(src.indexOf(",") + 1))]));

export function createAhead(viewer) {
  const { state, server } = viewer;
  const held = new Map(); // frame -> {image, picture}
  let stack = "";
  let asking = false;
  let refused = false; // until the server has said something anew
  let heading = { direction: 1, loops: false };
  let walked = -Infinity; // when somebody stepped last

  function whole(image) {
    const { here, isComing } = viewer.slices;
    return { ...heading, frame: here, count: image.frames, coming: isComing || here === image.frame };
  }

  function follow(image) {
    if (image?.stack === stack) return;
    held.clear();
    stack = image?.stack || "";
  }

  // One after the other: to unpack the texts of all at once would hold up a step that somebody takes meanwhile.
  async function take(images) {
    for (const image of images) {
      const picture = await decoded(image.src);
      if (image.stack === stack) held.set(image.frame, { image, picture });
      else picture.close();
    }
    const { image } = state.data;
    if (!image) return;
    viewer.slices.showReady();
    for (const frame of framesToDrop([...held.keys()], whole(image), capacity(image))) drop(frame);
  }

  // A bitmap's memory is freed when somebody says so, else at some time.
  function drop(frame) {
    const { picture } = held.get(frame);
    held.delete(frame);
    if (picture !== state.picture) picture.close?.();
  }

  function reach(image) {
    const far = performance.now() - walked < WALK ? REACH_ON_A_WALK : REACH;
    return Math.min(heading.loops ? image.frames : far, Math.floor((capacity(image) * 3) / 4) - 1);
  }

  async function fill() {
    const { image, session } = state.data;
    if (asking || refused || !session || !image || image.frames < 2) return;
    const frames = nextFrames(held, whole(image), reach(image));
    if (!isDue(frames, whole(image))) return;
    asking = true;
    const reply = await answerOf(server.frames_ahead({ session, frames }));
    refused = Boolean(reply.error);
    if (!reply.error) await take(reply.images).catch(() => (refused = true));
    asking = false;
    fill();
  }

  return {
    get: (frame) => held.get(frame),
    // Another picture is on show, which the server sent.
    receive(image, picture) {
      follow(image);
      refused = false;
      if (image && picture && image.frames > 1) held.set(image.frame, { image, picture });
      fill();
    },
    head(direction, loops = false) {
      heading = { direction: direction || heading.direction, loops };
      walked = performance.now();
      fill();
    },
  };
}
