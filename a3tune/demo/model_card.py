"""The model card of the demo model, filled with its measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import LlavaForConditionalGeneration

CARD_NAME = "README.md"


def write_model_card(folder: Path, figures: dict[str, Any], model: LlavaForConditionalGeneration) -> None:
    """Write the card beside the weights.

    Args:
        folder: the model's folder.
        figures: as in ``figures.json``: recipe, accuracy by topic for both styles, alignment.
        model: whose weights and layers it describes.
    """
    standard, shifted, alignment, recipe = (figures[name] for name in ("standard", "shifted", "alignment", "recipe"))
    text, vision = model.config.text_config, model.config.vision_config
    side = vision.image_size // vision.patch_size
    parameters = sum(weight.numel() for weight in model.parameters())
    rows = "\n".join(
        f"| {name} | {score['accuracy']:.1%} | {score['questions']} | {shifted[name]['accuracy']:.1%} |"
        for name, score in standard.items()
    )
    card = f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
tags: [synthetic, demo, not-for-medical-use]
---

# Phantom demo model

A LLaVA of {parameters / 1e6:.1f} million parameters (`LlavaForConditionalGeneration`: CLIP vision tower with
{side} x {side} patches on {vision.image_size} x {vision.image_size} pixels, Llama language model with
{text.num_hidden_layers} layers of {text.num_attention_heads} heads), stored in float16.

**It knows synthetic phantoms only.** It was trained on drawings made by this project and on no patient's image. On
anything else, real radiographs included, its answers mean nothing. It exists to show the tool at work in seconds.
Research and teaching only; not for diagnosis.

## What it was taught, and what not

As a medical vision-language model is before it is tuned: it knows anatomy and findings, and has not been asked
everything.

* Taught: what each patch shows, in words (vision tower, projector, word embeddings); questions on what is there
  (*presence*), which organ is abnormal or too large (*organ*), and what kind of image it is (*modality*); and sentences
  of reports as plain text, without the image that they are about, so that it has the words.
* Not taught: where something is (*location*), on which *side*, how many there are (*count*), and one sentence about an
  image (*report*). That is what tuning on the sample data adds.

`python -m a3tune demo build --seed {figures["seed"]}`: {recipe["phantoms"]} phantoms; {recipe["vision_steps"]} steps
of the vision tower on the share of each patch that every structure covers; {recipe["language_steps"]} steps of the
projector and language model on the questions about {recipe["asked_about"]} of them, and {recipe["last_steps"]} with
sentences in between. {figures["training_minutes"]} minutes on the machine that made these files (2 cores, no GPU),
{figures["processor_minutes"]} of them on the processor.

## Measured

On {recipe["measured"]} held-out phantoms; an answer counts only if it is the expected one word for word. "Shifted"
means other markers, tubes, noise and windows than in training.

| questions | right | number | right, shifted |
|---|---|---|---|
{rows}

Where it looks: over {alignment["questions"]} questions about something visible, {alignment["mass"]:.1%} of the critical
heads' attention falls inside the structure asked about, {alignment["relative"]:.1f} times what an even map would have
there, and the peak of the map lies in it in {alignment["pointing"]:.0%} of cases.
"""
    (folder / CARD_NAME).write_text(card, encoding="utf-8")
