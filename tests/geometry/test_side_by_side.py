"""Several images as one picture: each pixel and each patch where it belongs."""

import numpy as np

from a3tune.geometry.patch_grid import to_source
from a3tune.geometry.side_by_side import side_by_side
from a3tune.types import PatchGrid, PatchTile


def raster(height, width, beyond=0.0):
    """Two patches beside each other, which reach beyond the image on both sides."""
    edges = np.linspace(-beyond, width + beyond, 3)
    boxes = np.array([[edges[0], 0, edges[1], height], [edges[1], 0, edges[2], height]])
    return PatchGrid(boxes, (PatchTile(0, 1, 2, (edges[0], 0.0, edges[2], float(height))),), height, width)


def test_every_patch_shows_on_its_own_image(random_image):
    first, second = random_image(1, 20, 30), random_image(2, 12, 16)
    picture, grid = side_by_side([first, second], [raster(20, 30), raster(12, 16, 5.0)])
    left = picture.width - 16
    np.testing.assert_array_equal(picture.pixels[:20, :30], first.pixels)
    np.testing.assert_array_equal(picture.pixels[:12, left:], second.pixels)
    assert not picture.pixels[:, 30:left].any()
    assert (picture.height, grid.count, [tile.start for tile in grid.tiles]) == (20, 4, [0, 2])
    for patch, (rows, columns) in enumerate(
        [(20, slice(0, 15)), (20, slice(15, 30)), (12, slice(left, left + 8)), (12, slice(left + 8, left + 16))]
    ):
        shown = to_source(np.eye(4)[patch], grid, smooth=False)
        assert (shown[:rows, columns] > 0).all()
        shown[:rows, columns] = 0
        assert not shown[:, :30].any()
        assert not shown[:12, left:].any()


def test_one_image_stays_as_it_is(random_image):
    image, grid = random_image(1, 20, 30), raster(20, 30)
    assert side_by_side([image], [grid]) == (image, grid)
