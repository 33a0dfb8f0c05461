import sys

import pytest
import torch

from a3tune.catalogue import entry


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all weights take memory")
def test_what_finds_regions_on_the_processor_needs_the_weights_at_work_alone():
    needed = {
        name: entry("segmenter", name).needs("float32", torch.device("cpu")) for name in ("sam-vit-b", "sam-vit-h")
    }
    assert needed == {"sam-vit-b": 1_000_000_000, "sam-vit-h": 1_000_000_000}


def test_what_finds_regions_on_a_gpu_needs_all_its_weights():
    huge = entry("segmenter", "sam-vit-h").needs("float32", torch.device("cuda"))
    assert huge == 4 * 641_000_000 + 1_000_000_000
    assert entry("segmenter", "litemedsam").needs("float32", torch.device("cuda")) == 4 * 9_800_000
