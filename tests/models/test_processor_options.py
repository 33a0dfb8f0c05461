"""The options that an image processor is called with are heard from the model's own processor, which stays as it is."""

import pytest
import torch

from a3tune.models.prompt import PromptEncoder
from tests.support.tiny_models import BUILDERS


@pytest.mark.parametrize(
    ("name", "options"),
    # Mistral 3 cuts its picture into blocks of 2 x 2 patches, which only its processor knows.
    [("mistral3", {"patch_size": 8}), ("internvl", {"crop_to_patches": True}), ("llava", {})],
)
def test_what_the_processor_asks_its_image_processor_for(name, options):
    _, config, processor = BUILDERS[name]()
    before = processor.image_processor
    assert PromptEncoder(processor, config, torch.device("cpu")).image_options == options
    assert processor.image_processor is before
