"""How well each region fits a text: BiomedCLIP, or any other open_clip model, on crops of the regions.

A crop is the image with everything outside the mask set to 0, cut to the mask's box, unless the model's own
configuration asks for its surroundings as well (see ``crops``). The score is 100 times the cosine of the crop's and
the text's embedding (Focus on What Matters: A3Tune, ACL 2025).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from a3tune.checkpoints import weights_digest
from a3tune.device import choose_device
from a3tune.errors import LabelError
from a3tune.labels.scorers.crops import CROPS, CropStyle
from a3tune.labels.scorers.open_clip_folder import fetch_folder, load_folder
from a3tune.labels.scorers.templates import check_prompts
from a3tune.labels.segmenters.working_size import region_at, working_image
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_LABEL
from a3tune.recently_used import RecentlyUsed
from a3tune.storage import is_folder, named_path
from a3tune.types import MedicalImage, Region, ScoredRegion

BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
"""The scorer of the method, on the Hugging Face hub."""


class Tokenizer(Protocol):
    """open_clip's tokenizers: texts to int64 [texts, context_length], longer texts cut."""

    context_length: int

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor: ...


class RegionScorer:
    """Ranks regions for a text.

    Crops that were embedded once are remembered, so that a second question about an image costs the text
    encoder only. One instance may be shared by threads.

    Args:
        model: an open_clip model with ``encode_image`` and ``encode_text``.
        preprocess: PIL image -> float tensor [3, h, w], the checkpoint's own transform.
        tokenizer: the checkpoint's own tokenizer.
        name: display name.
        crop_style: what the model is shown of a region: "region" as in the method, or "surroundings".
        configuration: changes with whatever is set of model, transform and tokenizer beside the weights; part of
            ``digest``.
        device: "cpu", "cuda" or "auto" (CUDA where there is one).
        batch: crops per pass of the image encoder.
        remembered: how many crops' embeddings are kept.
    """

    def __init__(
        self,
        model: Any,
        preprocess: Callable[[Image.Image], Tensor],
        tokenizer: Tokenizer,
        *,
        name: str,
        crop_style: CropStyle = "region",
        configuration: str = "",
        device: str = "auto",
        batch: int = 64,
        remembered: int = 4096,
    ) -> None:
        self.name = name
        self.crop_style: CropStyle = crop_style
        self._configuration = configuration
        self.context_length = int(tokenizer.context_length)
        self._device = choose_device(device, mps=False)
        self._model = model.eval().requires_grad_(False).to(self._device)
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._batch = batch
        self._crops: RecentlyUsed[Tensor] = RecentlyUsed(remembered)
        self._texts: RecentlyUsed[Tensor] = RecentlyUsed(256)
        self._embedding = threading.Lock()

    @cached_property
    def digest(self) -> str:
        """Changes whenever weights, configuration, tokenizer or crop style change: 16 hex digits, then the style where
        it is not the method's. Reads all weights the first time."""
        both = f"{weights_digest(self._model.state_dict())}{self._configuration}"
        digest = hashlib.sha256(both.encode()).hexdigest()[:16]
        return digest if self.crop_style == "region" else f"{digest}-{self.crop_style}"

    @memory_for("the order of the regions", TO_LABEL)
    def score(
        self, image: MedicalImage, regions: Sequence[Region], prompt: str | Sequence[str]
    ) -> tuple[ScoredRegion, ...]:
        """Rank regions for a prompt, or for several descriptions of one thing.

        Descriptions are embedded, averaged as they come and then normalised; the phrase of a region is the
        description that fits it best. Equal scores keep the order of ``regions``.

        Args:
            image: the image that the regions belong to.
            regions: at least one, none of them empty.
            prompt: the text, or several.

        Returns:
            all regions, best first, with ranks from 1 and softmax weights that sum to 1.

        Raises:
            LabelError: no region, an empty region, an empty prompt or one that the text encoder cannot hold.
        """
        if not regions:
            raise LabelError(
                expected="at least one region to rank",
                got="There is none",
                remedy="Draw a box over a structure, or loosen the filter",
            )
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        texts = self.embed_texts(prompts)
        crops = functional.normalize(self.embed_regions(image, regions), dim=-1)
        target = functional.normalize(texts.mean(dim=0), dim=0)
        # Row by row, so that equal crops get equal scores to the last bit.
        scores = 100.0 * (crops.double() * target.double()).sum(dim=1).numpy()
        each = (crops @ functional.normalize(texts, dim=-1).T).numpy().argmax(axis=1)
        exponent = np.exp(scores - scores.max())
        weights = exponent / exponent.sum()
        return tuple(
            ScoredRegion(regions[index], float(scores[index]), rank, float(weights[index]), prompts[each[index]])
            for rank, index in enumerate(np.argsort(-scores, kind="stable"), start=1)
        )

    @torch.inference_mode()
    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        """float32 [prompts, width] on the CPU, not normalised.

        Raises:
            LabelError: see :meth:`score`.
        """
        check_prompts(prompts)
        for prompt in prompts:
            length = self.count_tokens(prompt)
            if length > self.context_length:
                raise LabelError(
                    expected=f"a prompt of at most {self.context_length} tokens, the most that {self.name} reads",
                    got=f"The prompt has {length} tokens",
                    remedy="Shorten it to what should be found",
                )
        return torch.stack([self._texts.get_or_make(prompt, partial(self._encode_text, prompt)) for prompt in prompts])

    @torch.inference_mode()
    def embed_regions(self, image: MedicalImage, regions: Sequence[Region]) -> Tensor:
        """float32 [regions, width] on the CPU, not normalised; only crops not seen before are computed.

        Raises:
            LabelError: a region is empty or belongs to an image of another size.
        """
        keys = [(image.sha256, region.size, region.grid, region.key) for region in regions]
        with self._embedding:
            known = {key: crop for key in keys if (crop := self._crops.get(key)) is not None}
            new = {key: region for key, region in zip(keys, regions, strict=True) if key not in known}
            items = list(new.items())
            shown = working_image(image) if items else image
            cut = CROPS[self.crop_style](shown)
            for start in range(0, len(items), self._batch):
                group = items[start : start + self._batch]
                crops = [Image.fromarray(cut(region_at(region, image, shown))) for _, region in group]
                batch = torch.stack([self._preprocess(crop) for crop in crops])
                features = self._model.encode_image(batch.to(self._device)).float().cpu()
                for (key, _), feature in zip(group, features, strict=True):
                    known[key] = feature.clone()
                    self._crops.put(key, known[key])
        return torch.stack([known[key] for key in keys])

    def forget(self, images: Collection[str], prompts: Collection[str]) -> None:
        """Drop what is kept in memory of the images with these digests, and of prompts."""
        self._crops.forget(lambda key: key[0] in images)
        self._texts.forget(lambda prompt: prompt in prompts)

    def count_tokens(self, prompt: str) -> int:
        """How many tokens a prompt has, start and end marks included."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is not None:
            return len(inner(prompt, truncation=False, verbose=False).input_ids)
        return len(cast(Any, self._tokenizer).encode(prompt)) + 2

    def _encode_text(self, prompt: str) -> Tensor:
        tokens = self._tokenizer([prompt]).to(self._device)
        return self._model.encode_text(tokens).float().cpu()[0]


def load_scorer(source: str | Path = BIOMEDCLIP, *, device: str = "auto") -> RegionScorer:
    """Load a scorer from a folder in open_clip's form, or from the Hugging Face hub.

    Args:
        source: a folder with ``open_clip_config.json``, weights and tokenizer files (``local-dir:`` may stand
            before it), or a repository such as :data:`BIOMEDCLIP` (``hf-hub:`` may stand before it).
        device: "cpu", "cuda" or "auto".

    Raises:
        LabelError: a file is missing, damaged, hostile or of another model, or the hub cannot be reached.
    """
    text = str(source)
    if text.startswith("local-dir:") or (not text.startswith("hf-hub:") and is_folder(text)):
        folder, name = named_path(text.removeprefix("local-dir:")), Path(text).name
    else:
        name = text.removeprefix("hf-hub:")
        folder = fetch_folder(name)
    parts = load_folder(folder)
    return RegionScorer(
        parts.model,
        parts.preprocess,
        parts.tokenizer,
        name=parts.name or name,
        crop_style=parts.crop_style,
        configuration=parts.configuration,
        device=device,
    )
