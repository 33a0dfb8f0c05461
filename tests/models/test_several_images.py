"""Several images in one prompt: each at its own tokens, in their order, and classes that take one alone are refused."""

import numpy as np
import pytest
import torch

from a3tune.errors import RequestError
from a3tune.models.quirks import quirk_of
from a3tune.types import MedicalImage


def seen(model, images):
    """What the language model gets: one vector for each token of the prompt; and the prompt."""
    prompt, got = model.encode(images, "What has changed?"), []

    def note(module, arguments, options):
        got.append(options["inputs_embeds"][0].clone())

    handle = model.language_model.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        model.model(**prompt.inputs)
    handle.remove()
    return got[0], prompt


def test_each_image_stands_at_its_own_tokens(tiny_name, tiny_model, random_image):
    model = tiny_model(tiny_name)
    first, second = random_image(1, 40, 52), random_image(2, 64, 36)
    if quirk_of(model.config).one_image:
        with pytest.raises(RequestError, match=f"2 images.*type {model.config.model_type} .*qwen2_5_vl"):
            model.encode_placed([first, second], "What has changed?")
        return
    vectors, prompt = seen(model, [first, second])
    assert len(prompt.images) == 2
    for image, group in zip((first, second), prompt.images, strict=True):
        assert model.patch_grid(image.height, image.width, len(group)).count == len(group)
    alone, single = seen(model, [first])
    torch.testing.assert_close(alone[list(single.images[0])], vectors[list(prompt.images[0])], atol=1e-4, rtol=0)
    for place, images in enumerate(
        ([MedicalImage(255 - first.pixels), second], [first, MedicalImage(255 - second.pixels)])
    ):
        changed, other = seen(model, images)
        assert other.images == prompt.images
        moved = torch.nonzero((changed - vectors).abs().amax(dim=1) > 1e-4).squeeze(1).tolist()
        assert set(moved) <= set(prompt.images[place])
        assert len(moved) > len(prompt.images[place]) / 2
    swapped, other = seen(model, [second, first])
    np.testing.assert_array_equal([len(group) for group in other.images], [len(g) for g in prompt.images[::-1]])
    torch.testing.assert_close(swapped[list(other.images[1])], vectors[list(prompt.images[0])], atol=1e-4, rtol=0)
