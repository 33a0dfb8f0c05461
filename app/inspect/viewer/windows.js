// The windows of computed tomography on the number keys, for the eye only; none where values are no Hounsfield units.

export function createWindows({ state, values, draw }, presets) {
  const names = Object.keys(presets);

  return {
    // Whether they mean something for the picture on show. Where the format cannot tell (null), its values reach to air.
    get fit() {
      const { image } = state.data;
      return Boolean(image?.window) && image.hounsfield !== false;
    },
    choose(place) {
      const name = names[place];
      if (!name) return;
      const [centre, width] = presets[name];
      state.levels = { preset: { name, centre, width } };
      values.fetch();
      draw();
    },
  };
}
