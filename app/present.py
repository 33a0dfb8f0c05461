"""Results as what the page shows: values for the viewer, words for errors and choices."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import math
import secrets
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from a3tune.errors import A3TuneError, Cancelled
from a3tune.types import MedicalImage, PatchTile, Token
from app.regions import KeptTarget, RankedRegions, ShownRegion
from app.services import Finished, OpenedImage, Step
from app.slots import ModelStatus

if TYPE_CHECKING:
    from a3tune.inspection import AdapterView

log = logging.getLogger("a3tune.app")

NOTICE = "Research use only. Not a medical device, not for diagnosis."
DEMO_NOTICE = "The demo model knows synthetic phantoms only: its words about real images mean nothing."

# Per-head means go to the browser with the result up to this many bytes; larger models' heads are fetched one by one.
_HEAD_MEANS_LIMIT = 256 * 1024


def viewer_value(opened: OpenedImage | None, finished: Finished | None = None) -> str:
    """The viewer's value: a JSON text with the image and, once there is one, the result.

    Maps are base64 of little-endian float16: "critical" and "mean" (mean over the critical heads and over all
    heads) are [text tokens, patches], "head_means" is [layers * heads, patches], each head's mean over the answer.
    """
    value = {
        "image": None if opened is None else _image(opened.image),
        "result": None if finished is None else _result(finished),
        "board": "" if opened is None else opened.board,
    }
    # "<" is written as an escape, so that a question can never read as markup.
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def head_map_value(weights: np.ndarray) -> dict[str, str]:
    """One head's map [text tokens, patches] as the viewer fetches it."""
    return {"map": _halves(weights)}


def regions_value(ranked: RankedRegions) -> dict[str, Any]:
    """The ranked regions as the viewer receives them; contours are flat lists x, y, x, y, ... in source pixels."""
    labels = ranked.labels
    more = len(labels.regions) - len(ranked.shown)
    notes = [f"{len(ranked.shown)} of {len(labels.regions)} ranked regions shown"] if more > 0 else []
    return {
        "prompt": labels.prompt,
        "notes": [*labels.notes, *notes],
        "made_by": f"Found by {labels.segmenter}, ranked by {labels.scorer}.",
        "rows": [_region(item) for item in ranked.shown],
        "metrics": metrics_value(ranked.metrics),
    }


def metrics_value(metrics: dict[str, float]) -> list[list[str]]:
    """Name, value and meaning of each number about the target, as the page shows them."""
    rows = [
        ("attention_mass", "Attention inside", "{:.1f} %", "Share of the attention on the image that falls inside"),
        ("relative_mass", "Against chance", "{:.2f} ×", "The same over what an even map would have there; 1 is chance"),
        ("pointing_game", "Highest point inside", "", "Whether the brightest patch lies inside (pointing game)"),
        ("iou", "Overlap (IoU)", "{:.2f}", "Patches above half of the maximum against the target's patches"),
        ("area", "Area of the image", "{:.1f} %", "How much of the image the target covers"),
    ]
    told = []
    for key, name, form, meaning in rows:
        if key in metrics:
            number = metrics[key]
            if math.isnan(number):
                value = "not defined"
            elif form:
                value = form.format(100 * number if form.endswith("%") else number)
            else:
                value = {0.0: "no", 1.0: "yes"}.get(number, f"{100 * number:.0f} %")
            told.append([name, value, meaning])
    return told


def target_value(target: KeptTarget, files: bytes) -> dict[str, str]:
    """What the viewer gets when a target was kept: words, and the ZIP archive as base64."""
    count = len(target.labels.regions)
    return {
        "words": f"Kept: {count} {'region' if count == 1 else 'regions'}, {100 * target.mask.mean():.1f} % of the "
        "image. The target stays with this visit.",
        "archive": base64.b64encode(files).decode("ascii"),
    }


def describe(image: MedicalImage) -> str:
    """What the page says about an image, in a few short lines; nothing that names a patient is known here."""
    lines = [" · ".join(part for part in (image.modality, image.format) if part)]
    lines.append(f"{image.width} × {image.height} px")
    if image.window is not None:
        lines.append(f"C {image.window.centre:g}  W {image.window.width:g}")
    if image.frame_count > 1:
        lines.append(f"{image.frame + 1} of {image.frame_count}")
    return "\n".join(lines)


def explain(error: BaseException) -> str:
    """The error in words for the page.

    An error that the library foresaw is told as it is. For any other the reader gets a number, under which the log
    holds the type and the place; its message is not logged, since it may quote the file.
    """
    if isinstance(error, A3TuneError):
        return str(error)
    number = secrets.token_hex(3)
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("Unexpected %s, number %s\n%s", type(error).__name__, number, frames)
    return (
        f"Something unexpected went wrong (number {number} in the server's log). "
        "Your image is still open. Try again, or choose another image."
    )


def error_status(error: BaseException) -> str:
    """The error as the page's status line."""
    if isinstance(error, Cancelled):
        return status("Cancelled.")
    return f'<p class="status error" role="alert">{html.escape(explain(error))}</p>'


def status(text: str) -> str:
    """A quiet status line."""
    return f'<p class="status" role="status">{html.escape(text)}</p>'


def step_status(step: Step) -> str:
    """A status line with a progress bar."""
    share = f"{100 * min(max(step.share, 0.0), 1.0):.0f}"
    return (
        f'<p class="status busy" role="status">{html.escape(step.what)} …</p>'
        f'<progress max="100" value="{share}" aria-label="{html.escape(step.what, quote=True)}"></progress>'
    )


def finished_status(finished: Finished) -> str:
    """How long the inspection took."""
    seconds = finished.inspection.seconds
    answer = sum(value for name, value in seconds.items() if name.endswith("answer"))
    maps = sum(value for name, value in seconds.items() if name.endswith("maps"))
    return status(f"Answer in {answer:.1f} s, attention of every head in {maps:.1f} s.")


def model_value(model: ModelStatus) -> dict[str, str]:
    """What the page's head says about the model."""
    texts = {
        "loading": "loading …",
        "ready": "ready",
        "failed": "" if model.error is None else explain(model.error),
    }
    return {"state": model.state, "name": model.name, "text": texts[model.state]}


def thumbnail(image: MedicalImage, size: int = 96) -> str:
    """Data URL of a square thumbnail, the middle of the image."""
    picture = Image.fromarray(image.pixels)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    cut = picture.crop((left, top, left + side, top + side))
    return _data_url(cut.resize((size, size), Image.Resampling.LANCZOS))


def _image(image: MedicalImage) -> dict[str, Any]:
    return {
        "src": _data_url(Image.fromarray(image.pixels)),
        "width": image.width,
        "height": image.height,
        "label": describe(image),
    }


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _result(finished: Finished) -> dict[str, Any]:
    inspection = finished.inspection
    view = inspection.views[0]
    weights = view.maps.weights
    layers, heads = np.asarray(view.critical_heads, dtype=np.int64).T
    tokens = _tokens(view, finished.special_tokens)
    answer = [token["row"] for token in tokens if token["role"] == "answer" and not token["special"]]
    head_means = None
    if answer and layers.size and weights.shape[0] * weights.shape[1] * weights.shape[3] * 2 <= _HEAD_MEANS_LIMIT:
        head_means = _halves(weights[:, :, answer].mean(axis=2).reshape(-1, weights.shape[3]))
    return {
        "id": finished.result,
        "question": inspection.question,
        "model": inspection.model,
        "adapter": view.adapter,
        "speaker": _speaker(inspection.model, view.adapter, finished.demo),
        "answer": view.answer,
        "layers": view.maps.layers,
        "heads": view.maps.heads,
        "critical": [[head.layer, head.head] for head in view.critical_heads],
        "ratio": [round(float(value), 5) for value in view.visual_ratio.ravel()],
        "patches": weights.shape[3],
        "tiles": [_tile(tile) for tile in inspection.grid.tiles],
        "tokens": tokens,
        "maps": {
            "critical": _halves(weights[layers, heads].mean(axis=0)),
            "mean": _halves(weights.mean(axis=(0, 1))),
        },
        "head_means": head_means,
        "sinks": list(finished.sinks),
    }


def _speaker(model: str, adapter: str, demo: bool) -> str:
    words = f"{model}, adapter: {adapter}."
    return f"{words} {DEMO_NOTICE}" if demo else words


def _tokens(view: AdapterView, special: frozenset[str]) -> list[dict[str, Any]]:
    places = {int(position): place for place, position in enumerate(view.maps.rows)}
    return [_token(token, places.get(token.position), special) for token in view.tokens if token.role != "image"]


def _token(token: Token, row: int | None, special: frozenset[str]) -> dict[str, Any]:
    return {"row": row, "text": token.text, "role": token.role, "special": token.text.strip() in special}


def _region(item: ShownRegion) -> dict[str, Any]:
    region = item.scored.region
    return {
        "key": item.key,
        "rank": item.scored.rank,
        "score": round(item.scored.score, 2),
        "weight": round(item.scored.weight, 4),
        "phrase": item.scored.phrase,
        "area": region.area,
        "share": round(float(region.area / region.mask.size), 5),
        "drawn": item.drawn,
        "chosen": item.chosen,
        "colour": "#{:02x}{:02x}{:02x}".format(*item.colour),
        "contours": [line.ravel().tolist() for line in item.contours],
        "anchor": list(item.anchor),
    }


def _tile(tile: PatchTile) -> dict[str, Any]:
    return {
        "start": tile.start,
        "rows": tile.rows,
        "columns": tile.columns,
        "box": [float(edge) for edge in tile.box],
        "overview": tile.overview,
    }


def _halves(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f2").tobytes()).decode("ascii")
