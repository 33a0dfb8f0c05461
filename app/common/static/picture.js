// A picture that can be drawn.

import { make } from "./dom.js";

// The element of a picture, once it is decoded. A browser that is short of something may decline to decode one ahead
// that has come whole: it does so when the picture is drawn.
export async function decoded(src) {
  const picture = make("img", { src });
  try {
    await picture.decode();
  } catch (error) {
    if (!picture.complete || !picture.naturalWidth) throw error;
  }
  return picture;
}
