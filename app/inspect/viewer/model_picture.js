// The picture that the model was given, where that is another one than the one for the eye: one click away.

import { decoded } from "../../common/static/picture.js";

export function createModelPicture(viewer) {
  const { element, state } = viewer;
  const button = element.querySelector("[data-action=modelPicture]");

  function tell() {
    button.hidden = !state.modelPicture;
    button.setAttribute("aria-pressed", String(state.showsModelPicture));
  }

  // Takes what the server sent about an image; resolves once the picture can be drawn.
  async function receive(image) {
    const src = image?.modelSrc;
    if (!src) {
      state.modelPicture = null;
      state.modelPictureOf = "";
      state.showsModelPicture = false;
    } else if (state.modelPictureOf !== src) {
      const picture = await decoded(src);
      if (state.data.image?.modelSrc !== src) return; // another image came meanwhile
      Object.assign(state, { modelPicture: picture, modelPictureOf: src });
    }
    tell();
  }

  button.addEventListener("click", () => {
    state.showsModelPicture = !state.showsModelPicture;
    tell();
    viewer.draw();
  });
  return { receive };
}
