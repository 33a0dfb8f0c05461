"""Tiny LLaVA checkpoints in their authors' own layout, and what such a checkpoint computes, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZE, PATCH = 24, 6
PATCHES = (SIZE // PATCH) ** 2


@dataclass
class Original:
    """The checkpoint's folder and the parts that it was written from."""

    folder: Path
    language: MistralForCausalLM | LlamaForCausalLM
    vision: CLIPVisionModel
    projector: torch.nn.Sequential
    tokenizer: sentencepiece.SentencePieceProcessor

    def pixels(self, image: np.ndarray) -> torch.Tensor:
        """float32 [1, 3, SIZE, SIZE]: squared with a border in the mean colour, resized, scaled."""
        height, width, _ = image.shape
        side = max(height, width)
        square = Image.new("RGB", (side, side), tuple(int(part * 255) for part in MEAN))
        square.paste(Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
        small = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32) / 255
        return torch.from_numpy((small - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1)[None]

    def ids(self, prompt: str) -> list[int]:
        """Token ids of a prompt with one ``<image>``, which is -200: each piece of text by itself."""
        before, after = prompt.split("<image>")
        return [1, *self.tokenizer.encode(before), -200, *self.tokenizer.encode(after)]

    @torch.no_grad()
    def outputs(self, image: np.ndarray, prompt: str):
        """The language model's outputs on the spliced embeddings, attention included."""
        ids = torch.tensor(self.ids(prompt))
        place = int((ids == -200).nonzero())
        embed = self.language.get_input_embeddings()
        patches = self.vision(self.pixels(image), output_hidden_states=True).hidden_states[-2][0, 1:]
        parts = [embed(ids[:place]), self.projector(patches), embed(ids[place + 1 :])]
        return self.language(inputs_embeds=torch.cat(parts)[None], output_attentions=True)

    @torch.no_grad()
    def answer(self, image: np.ndarray, prompt: str, steps: int) -> list[int]:
        """The greedy answer, each token from a whole pass; stops after the end token."""
        written, tokens = prompt, []
        ids = torch.tensor(self.ids(written))
        place = int((ids == -200).nonzero())
        embed = self.language.get_input_embeddings()
        patches = self.projector(self.vision(self.pixels(image), output_hidden_states=True).hidden_states[-2][0, 1:])
        start = torch.cat([embed(ids[:place]), patches, embed(ids[place + 1 :])])
        while len(tokens) < steps and 2 not in tokens:
            whole = torch.cat([start, embed(torch.tensor(tokens, dtype=torch.long))])
            tokens.append(int(self.language(inputs_embeds=whole[None]).logits[0, -1].argmax()))
        return tokens


def write_original(
    folder: Path, kind: str = "llava_mistral", *, pickled: bool = False, with_tower: bool = True, **changes
) -> Original:
    """Write a tiny random checkpoint of ``kind`` with its vision tower in ``folder / "vision_tower"``.

    Args:
        pickled: write ``pytorch_model`` shards in place of safetensors.
        with_tower: keep the tower's weights in the checkpoint too, as LLaVA-Med does.
        changes: entries of config.json that differ.
    """
    torch.manual_seed(11)
    folder.mkdir(parents=True)
    corpus = folder / "corpus.txt"
    corpus.write_text(
        "Is there a mass in the left lung?\n[INST] What organ is shown? [/INST]\nA chat. USER: ASSISTANT:\n"
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "tokenizer"), vocab_size=310, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, hard_vocab_limit=False,
        allow_whitespace_only_pieces=True, split_digits=True, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    corpus.unlink()
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    sizes = {
        "vocab_size": tokenizer.get_piece_size(), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2 if kind == "llava_mistral" else 4,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    mistral = kind == "llava_mistral"
    config_class, model_class = (MistralConfig, MistralForCausalLM) if mistral else (LlamaConfig, LlamaForCausalLM)
    own = {"rope_theta": 1e6, **({"sliding_window": None} if mistral else {})}
    language = model_class(config_class(**sizes, **own, attn_implementation="eager")).eval()
    vision = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIZE,
            patch_size=PATCH,
        )
    ).eval()  # fmt: skip
    projector = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 32))
    for part in (language, vision, projector):
        for parameter in part.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.25)
    vision.save_pretrained(folder / "vision_tower")
    settings = {
        "size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}, "resample": 3,
        "image_mean": MEAN, "image_std": STD, "image_processor_type": "CLIPImageProcessor",
    }  # fmt: skip
    (folder / "vision_tower" / "preprocessor_config.json").write_text(json.dumps(settings))
    config = {
        **sizes, **own, "model_type": kind, "tie_word_embeddings": False, "torch_dtype": "float32",
        "mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 16,
        "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "mm_patch_merge_type": "flat",
        "image_aspect_ratio": "pad", "mm_use_im_start_end": False, "mm_use_im_patch_token": False, **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: value.clone() for name, value in language.state_dict().items()}
    weights |= {f"model.mm_projector.{name}": value for name, value in projector.state_dict().items()}
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    if changes.get("image_aspect_ratio") == "anyres":
        weights["model.image_newline"] = torch.randn(32)
    if with_tower:
        tower = {f"vision_model.{name.removeprefix('vision_model.')}": v for name, v in vision.state_dict().items()}
        weights |= {f"model.vision_tower.vision_tower.{name}": value for name, value in tower.items()}
    _write_shards(folder, weights, pickled)
    return Original(folder, language, vision, projector, tokenizer)


def _write_shards(folder: Path, weights: dict[str, torch.Tensor], pickled: bool) -> None:
    stem, suffix = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    names = sorted(weights)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"{stem}-{number:05d}-of-00002.{suffix}"
        values = {name: weights[name].contiguous() for name in part}
        if pickled:
            torch.save(values, folder / file)
        else:
            save_file(values, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": places}))
