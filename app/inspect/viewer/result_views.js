// A result as the server sends it (app.inspect.viewer.values.result_value) -> its views, unpacked, each knowing its result.

import { bytesOf, float16Of } from "../../common/static/base64.js";

// `shown`: the result on show, whose question need not be said again.
export const viewsOf = (result, shown) =>
  result.views.map((view, place) => ({
    ...view,
    writing: Boolean(result.writing) && place === result.views.length - 1,
    result: result.id,
    question: result.question,
    reference: result.reference,
    patches: result.patches,
    tiles: result.tiles,
    label: shown && result.question === shown.question ? view.adapter : view.adapter + " · “" + result.question + "”",
    maps: { critical: float16Of(view.maps.critical), mean: float16Of(view.maps.mean) },
    headMeans: { answer: means(view, "answer"), question: means(view, "question") },
    experts: view.experts && { ...view.experts, first: view.experts.first && bytesOf(view.experts.first) },
    pending: new Set(),
  }));

const means = (view, role) => view.head_means[role] && float16Of(view.head_means[role]);
