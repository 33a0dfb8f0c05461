"""Positions: the same values whether they come as a view or as a copy."""

import pytest
import torch

from a3tune.sequence_positions import Positions


@pytest.mark.parametrize("indices", [[], [3], [2, 3, 4, 5], [0, 2, 3, 6]])
@pytest.mark.parametrize("dim", [0, 1])
def test_what_is_taken_is_what_indexing_takes(indices, dim):
    tensor = torch.arange(56).reshape(7, 8)
    wanted = torch.tensor(indices, dtype=torch.int64)
    positions = Positions(wanted)
    assert len(positions) == len(indices)
    assert torch.equal(positions.take(tensor, dim), tensor.index_select(dim, wanted))
    parts = positions.split(3)
    assert all(len(part) <= 3 for part in parts)
    assert torch.equal(torch.cat([part.take(tensor, dim) for part in parts], dim), tensor.index_select(dim, wanted))


def test_neighbours_are_not_copied():
    tensor = torch.arange(12).reshape(6, 2)
    for positions in (Positions.of(torch.arange(6) % 5 > 1), Positions.run(2, 5, torch.device("cpu"))):
        assert positions.indices.tolist() == [2, 3, 4]
        assert positions.take(tensor, 0).data_ptr() == tensor[2:].data_ptr()
        assert positions.split(2)[1].take(tensor, 0).data_ptr() == tensor[4:].data_ptr()
    assert Positions(torch.tensor([1, 3])).take(tensor, 0).data_ptr() != tensor[1:].data_ptr()
