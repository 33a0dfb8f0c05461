"""Patch grids of real image processors: paint a patch and find it again, masks to patches, maps to pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    Gemma3ImageProcessor,
    Gemma4ImageProcessor,
    GotOcr2ImageProcessor,
    Idefics3ImageProcessor,
    Lfm2VlImageProcessor,
    LlavaImageProcessor,
    LlavaNextImageProcessor,
    LlavaOnevisionImageProcessor,
    PixtralImageProcessor,
    Qwen2VLImageProcessor,
    SiglipImageProcessor,
)

from a3tune.errors import ModelError, RequestError
from a3tune.geometry import patch_grid
from a3tune.geometry.patch_grid import probe_patch_grid, to_patches, to_source
from a3tune.types import PatchGrid, PatchTile

PAN_AND_SCAN = {
    "do_pan_and_scan": True,
    "pan_and_scan_min_crop_size": 32,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}
SQUARE = {"height": 112, "width": 112}


class Case:
    """A processor, the options of its call, and its image tokens for an output."""

    def __init__(self, processor, per_tile=64, options=None):
        self.processor, self.per_tile, self.options = processor, per_tile, options or {}

    def run(self, image):
        return self.processor(images=Image.fromarray(image), return_tensors="pt", **self.options)

    def patches(self, height, width):
        features = self.run(np.zeros((height, width, 3), np.uint8))
        if "image_grid_thw" in features:
            return int(features["image_grid_thw"].prod()) // self.processor.merge_size**2
        return self.per_tile * features["pixel_values"].shape[-5 if features["pixel_values"].ndim == 6 else -4]

    def grid(self, height, width, **more):
        return probe_patch_grid(
            self.processor, height, width, self.patches(height, width), options=self.options, **more
        )

    def patch_change(self, image, plain):
        """float [patches]: mean absolute change of each token's own processor pixels."""
        after, before = self.run(image)["pixel_values"], self.run(plain)["pixel_values"]
        change = (after - before).abs()
        if change.ndim == 2:
            return change.reshape(-1, self.processor.merge_size**2 * change.shape[1]).mean(1).numpy()
        change = change.reshape(-1, *change.shape[-3:]).mean(1)
        edge = round(self.per_tile**0.5)
        return torch.nn.functional.adaptive_avg_pool2d(change, edge).reshape(-1).numpy()


class PaddedCase(Case):
    """A processor that gives a row of patches for each tile, padded to one length, of which some form a token."""

    def __init__(self, processor, merge):
        super().__init__(processor)
        self.merge = merge

    def shapes(self, features):
        if "spatial_shapes" in features:
            return features["spatial_shapes"].tolist()
        return (features["image_position_ids"].amax(dim=1).flip(-1) + 1).tolist()

    def patches(self, height, width):
        shapes = self.shapes(self.run(np.zeros((height, width, 3), np.uint8)))
        return sum(rows * columns for rows, columns in shapes) // self.merge**2

    def patch_change(self, image, plain):
        after, before = self.run(image), self.run(plain)
        change = (after["pixel_values"] - before["pixel_values"]).abs().mean(-1)
        blocks = [
            tile[: rows * columns].view(rows // self.merge, self.merge, columns // self.merge, self.merge)
            for tile, (rows, columns) in zip(change, self.shapes(after), strict=True)
        ]
        return torch.cat([block.mean(dim=(1, 3)).reshape(-1) for block in blocks]).numpy()


def crop(**more):
    return CLIPImageProcessor(size={"shortest_edge": 112}, crop_size=SQUARE, **more)


CASES = {
    "crop": Case(crop()),
    "crop of a larger resize": Case(
        CLIPImageProcessor(size={"shortest_edge": 128}, crop_size=SQUARE),
    ),
    "pad": Case(LlavaImageProcessor(do_pad=True, size={"shortest_edge": 112}, crop_size=SQUARE)),
    "squash": Case(SiglipImageProcessor(size=SQUARE)),
    "tiles and overview last": Case(
        GotOcr2ImageProcessor(size=SQUARE), options={"crop_to_patches": True, "max_patches": 6}
    ),
    "tiles on a tile axis": Case(
        Idefics3ImageProcessor(size={"longest_edge": 336}, max_image_size={"longest_edge": 112})
    ),
    "overview and crops": Case(Gemma3ImageProcessor(size=SQUARE), options=PAN_AND_SCAN),
    "flattened and merged": Case(
        Qwen2VLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 80}), None
    ),
    "padded patches": PaddedCase(Gemma4ImageProcessor(patch_size=8, max_soft_tokens=70), 3),
    "padded patches in tiles": PaddedCase(
        Lfm2VlImageProcessor(
            encoder_patch_size=8, tile_size=64, min_image_tokens=16, max_image_tokens=36, max_pixels_tolerance=1.0
        ),
        2,
    ),
}
SIZES = [(120, 120), (90, 260), (301, 127), (61, 83)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("name", CASES)
def test_a_painted_patch_is_found_again(name, height, width):
    case = CASES[name]
    grid = case.grid(height, width)
    plain = np.zeros((height, width, 3), np.uint8)
    inside = np.clip(grid.boxes, 0, [width, height, width, height])
    whole = np.flatnonzero((np.abs(inside - grid.boxes) < 1e-6).all(axis=1))
    assert len(whole) >= 6
    for patch in np.random.default_rng(height).choice(whole, 6, replace=False):
        x0, y0, x1, y1 = np.rint(grid.boxes[patch]).astype(int)
        mask = np.zeros((height, width), bool)
        mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
        painted = plain.copy()
        painted[mask] = 255
        change = case.patch_change(painted, plain)
        coverage = to_patches(mask, grid)
        # The patch itself changes most among the tokens of its tile, and so says the mask.
        tile = next(tile for tile in grid.tiles if tile.start <= patch < tile.start + tile.rows * tile.columns)
        span = slice(tile.start, tile.start + tile.rows * tile.columns)
        assert np.argmax(coverage[span]) + tile.start == patch
        assert np.argmax(change[span]) + tile.start == patch
        # Every token's change follows its coverage; filters bleed over a border by a pixel or two of eight or more.
        full = change.max() / coverage.max()
        assert np.abs(change / full - coverage).max() < 0.45
        assert (change[coverage == 0] < 0.25 * full).all()


def border_error(grid, expected):
    return np.abs(np.array([tile.box for tile in grid.tiles]) - expected).max()


@pytest.mark.parametrize(("height", "width"), [(300, 200), (201, 357), (1100, 4000), (57, 2000)])
def test_boxes_are_right_to_a_fraction_of_a_processor_pixel(height, width):
    scale = min(height, width) / 112
    long = int(max(height, width) * 112 / min(height, width))
    start = int((long - 112) / 2) * max(height, width) / long
    stop = start + 112 * max(height, width) / long
    expected = (start, 0, stop, height) if width > height else (0, start, width, stop)
    assert border_error(CASES["crop"].grid(height, width), [expected]) < 0.1 * scale

    edge = max(height, width)
    before = (edge - min(height, width)) // 2
    expected = (0, -before, width, edge - before) if width > height else (-before, 0, edge - before, height)
    assert border_error(CASES["pad"].grid(height, width), [expected]) < 0.1 * edge / 112

    assert border_error(CASES["squash"].grid(height, width), [(0, 0, width, height)]) == 0


def test_tiles_are_laid_out_as_the_processor_cuts_them():
    grid = CASES["tiles and overview last"].grid(200, 300)
    assert [tile.overview for tile in grid.tiles] == [False] * 6 + [True]
    expected = [(x, y, x + 100, y + 100) for y in (0, 100) for x in (0, 100, 200)] + [(0, 0, 300, 200)]
    assert border_error(grid, expected) < 0.1
    assert grid.shape == (56, 8)
    grid = CASES["overview and crops"].grid(100, 301)
    assert [tile.overview for tile in grid.tiles] == [True, False, False, False]
    assert border_error(grid, [(0, 0, 301, 100), (0, 0, 101, 100), (101, 0, 202, 100), (202, 0, 301, 100)]) < 0.1


def test_tiles_of_different_sizes_lie_each_in_its_own_place():
    grid = CASES["padded patches in tiles"].grid(120, 240)
    *details, overview = grid.tiles
    assert [(tile.rows, tile.columns) for tile in details] == [(4, 4)] * len(details)
    assert overview.overview
    assert (overview.rows, overview.columns) == (4, 8)
    np.testing.assert_allclose(overview.box, (0, 0, 240, 120), atol=0.1)


def test_patches_left_over_by_merging_are_no_part_of_the_grid():
    """13 x 10 patches merged by 2: the last column is dropped, as by a strided convolution."""
    processor = PixtralImageProcessor(size={"longest_edge": 52}, patch_size=4)
    grid = probe_patch_grid(processor, 40, 52, 30, patch_size=4)
    assert grid.shape == (5, 6)
    np.testing.assert_allclose(grid.tiles[0].box, (0, 0, 48, 40), atol=0.1)


def test_flattened_patches_count_merged_blocks():
    grid = CASES["flattened and merged"].grid(90, 260)
    assert grid.shape == (3, 9)
    np.testing.assert_allclose(grid.boxes[10], (260 / 9, 30, 520 / 9, 60), atol=0.1)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 90), (90, 1), (3, 2), (7, 40)])
def test_thin_images_stay_within_one_pixel(name, height, width):
    grid = CASES[name].grid(height, width)
    assert np.isfinite(grid.boxes).all()
    ones = to_patches(np.ones((height, width)), grid)
    np.testing.assert_allclose(ones[ones > 0], 1, atol=1e-6)
    # Along an axis that is shown whole, the whole image is covered.
    for tile in grid.tiles:
        if tile.overview or (len(grid.tiles) == 1 and not name.startswith("crop")):
            x0, y0, x1, y1 = tile.box
            assert max(x0, y0) < 0.5
            assert x1 > width - 0.5
            assert y1 > height - 0.5


def test_remainder_of_a_strided_convolution_is_left_out():
    processor = SiglipImageProcessor(size={"height": 384, "width": 384})
    grid = probe_patch_grid(processor, 384, 768, 729)
    assert grid.shape == (27, 27)
    np.testing.assert_allclose(grid.boxes[-1], (26 * 28, 26 * 14, 27 * 28, 27 * 14), atol=0.05)
    assert grid.boxes is probe_patch_grid(processor, 384, 768, 729).boxes, "measured once"
    same = probe_patch_grid(processor, 384, 768, 729, patch_size=14)
    np.testing.assert_array_equal(same.boxes, grid.boxes)


@pytest.mark.parametrize(("height", "width"), [(300, 500), (500, 300), (333, 333), (40, 400), (671, 673)])
def test_any_resolution_tokens_lie_where_their_pixels_come_from(height, width):
    processor = LlavaNextImageProcessor(
        size={"shortest_edge": 112},
        crop_size=SQUARE,
        image_grid_pinpoints=[[112, 224], [224, 112], [224, 224], [336, 112], [112, 336]],
    )
    tiles = processor(images=Image.new("RGB", (width, height)), return_tensors="pt")["pixel_values"].shape[1]
    rows, columns = {3: {True: (1, 2), False: (2, 1)}, 4: {True: (1, 3), False: (3, 1)}, 5: {True: (2, 2)}}[tiles][
        width > height or tiles == 5
    ]
    if width / height > columns / rows:
        cut = (rows * 8 - int(round(height * columns * 8 / width, 7))) // 2 * 2
        shape = (rows * 8 - cut, columns * 8)
    else:
        cut = (columns * 8 - int(round(width * rows * 8 / height, 7))) // 2 * 2
        shape = (rows * 8, columns * 8 - cut)
    grid = probe_patch_grid(processor, height, width, 64 + shape[0] * (shape[1] + 1), patch_size=14)
    assert grid.tiles[0].overview
    assert grid.tiles[0].box == (0, 0, width, height)
    assert len(grid.tiles) == 1 + shape[0]
    boxes = grid.boxes[64:].reshape(shape[0], shape[1] + 1, 4)
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    assert (areas[:, -1] == 0).all()
    assert (areas[:, :-1] > 0).all()
    # Without its padding the raster is centred on the image and as large, to within a cell on each side.
    cell = np.sqrt(areas[0, 0])
    outer = np.array([boxes[0, 0, 0], boxes[0, 0, 1], boxes[-1, -2, 2], boxes[-1, -2, 3]])
    assert np.abs(outer - (0, 0, width, height)).max() < 1.05 * cell
    # A bright spot in one source patch is seen at the same place by both halves of the tokens.
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 5 : width // 2] = True
    coverage = to_patches(mask, grid)
    assert coverage[64 + shape[1]] == 0
    sharp = to_source(coverage, grid, smooth=False, tiles="detail")
    assert sharp[mask].mean() > 0.55
    assert sharp[~mask].mean() < 0.15


@pytest.mark.parametrize(("height", "width"), [(1, 50), (1, 51), (20, 1020), (1, 200), (10, 2000), (3, 1000)])
@pytest.mark.parametrize("turned", [False, True])
def test_an_image_too_thin_for_any_detail_is_its_overview(height, width, turned):
    """Of a raster of 8 x 16 or 8 x 24 cells no row is left, or when turned no column, only a separator for each row."""
    height, width = (width, height) if turned else (height, width)
    processor = LlavaNextImageProcessor(
        size={"shortest_edge": 112}, crop_size=SQUARE, image_grid_pinpoints=[[112, 224], [224, 112], [224, 224]]
    )
    separators = 16 if turned else 0
    grid = probe_patch_grid(processor, height, width, 64 + separators, patch_size=14)
    assert (len(grid.tiles), grid.count) == (1, 64 + separators)
    np.testing.assert_allclose(grid.boxes[0], (0, 0, width / 8, height / 8), atol=0.1)
    np.testing.assert_allclose(grid.boxes[63], (width * 7 / 8, height * 7 / 8, width, height), atol=0.1)
    np.testing.assert_array_equal(grid.boxes[64:], np.zeros((separators, 4)))
    with pytest.raises(ModelError, match=r"image tokens do not fit|is too thin for"):
        probe_patch_grid(processor, height, width, 64 + separators + 3, patch_size=14)


def test_rows_that_a_processor_blends_into_one_lie_over_all_of_them():
    grid = probe_patch_grid(PixtralImageProcessor(size={"longest_edge": 40}, patch_size=1), 10, 400, 40)
    np.testing.assert_allclose(grid.boxes[:, [1, 3]], np.tile([0, 10], (40, 1)), atol=0.01)
    np.testing.assert_allclose(grid.boxes[:, 0], np.arange(40) * 10, atol=0.1)


def test_any_resolution_tokens_that_a_model_shrinks():
    processor = LlavaOnevisionImageProcessor(
        size={"height": 112, "width": 112},
        image_grid_pinpoints=[[112 * r, 112 * c] for r in (1, 2, 3) for c in (1, 2, 3)],
    )
    # 3 x 3 tiles of 8 x 8 cells, at most 4 tiles' worth of them: 24 / 1.5 = 16 rows and columns.
    grid = probe_patch_grid(processor, 500, 500, 64 + 16 * 17, patch_size=14)
    detail = grid.boxes[64:].reshape(16, 17, 4)
    np.testing.assert_allclose(detail[3, 5], (5 * 31.25, 3 * 31.25, 6 * 31.25, 4 * 31.25), atol=0.2)


@pytest.mark.parametrize("patches", [63, 65, 130, 1])
def test_counts_that_do_not_fit_are_refused(patches):
    processor = SiglipImageProcessor(size={"height": 112, "width": 110})
    with pytest.raises(ModelError, match=f"{patches} image tokens do not fit 1 tiles of 110 x 112 pixels"):
        probe_patch_grid(processor, 50, 60, patches)


def test_counts_that_contradict_the_patch_size_are_refused():
    with pytest.raises(ModelError, match="64 image tokens"):
        probe_patch_grid(crop(), 50, 60, 64, patch_size=16)
    with pytest.raises(ModelError, match="7 image tokens do not fit 8 x 18 patches"):
        probe_patch_grid(Qwen2VLImageProcessor(), 112, 252, 7)


class Turned(SiglipImageProcessor):
    """Swaps x and y, which no patch grid of upright boxes can describe."""

    def __call__(self, images, **options):
        return super().__call__(images=images.transpose(Image.Transpose.TRANSPOSE), **options)


class Mirrored(SiglipImageProcessor):
    def __call__(self, images, **options):
        return super().__call__(images=images.transpose(Image.Transpose.FLIP_LEFT_RIGHT), **options)


class Sightless(SiglipImageProcessor):
    def __call__(self, images, **options):
        return super().__call__(images=Image.new("RGB", images.size), **options)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Turned, "turns, mirrors or bends"),
        (Mirrored, "turns, mirrors or bends"),
        (Sightless, "light image from a dark"),
    ],
)
def test_processors_that_cannot_be_described_are_refused(kind, message):
    with pytest.raises(ModelError, match=message):
        probe_patch_grid(kind(size=SQUARE), 100, 140, 64)


def test_sizes_that_the_processor_refuses_are_reported_in_words():
    with pytest.raises(ModelError, match="It fails on 1000 x 2 pixels"):
        probe_patch_grid(Qwen2VLImageProcessor(), 2, 1000, 10)


def test_the_cache_knows_processors_by_their_settings():
    first = probe_patch_grid(crop(), 70, 90, 64)
    assert probe_patch_grid(crop(), 70, 90, 64) is first
    other = probe_patch_grid(CLIPImageProcessor(size={"shortest_edge": 128}, crop_size=SQUARE), 70, 90, 64)
    assert not np.array_equal(other.boxes, first.boxes)
    assert len(patch_grid._cache) <= patch_grid._cache.capacity


# --- conversions on grids made by hand -------------------------------------------------------------------------------


def regular_grid(box, rows, columns, height, width):
    x = np.linspace(box[0], box[2], columns + 1)
    y = np.linspace(box[1], box[3], rows + 1)
    boxes = np.array([(x[c], y[r], x[c + 1], y[r + 1]) for r in range(rows) for c in range(columns)])
    return PatchGrid(boxes, (PatchTile(0, rows, columns, box),), height, width)


def test_area_mode_weighs_cut_pixels_by_their_share():
    grid = regular_grid((0.0, 0.0, 3.0, 3.0), 2, 2, 3, 3)
    values = np.arange(9, dtype=float).reshape(3, 3)
    weights = np.array([[1, 0.5, 0], [0, 0.5, 1]])
    expected = weights @ values @ weights.T / 2.25
    np.testing.assert_allclose(to_patches(values, grid), expected.ravel(), rtol=1e-6)
    assert to_patches(values, grid).dtype == np.float32


def test_area_mode_agrees_with_brute_force():
    generator = np.random.default_rng(3)
    mask = generator.random((40, 30)) < 0.3
    grid = regular_grid((-7.5, 2.25, 33.0, 38.0), 5, 4, 40, 30)
    fine = np.zeros((40 * 20, 30 * 20))
    fine[:] = np.kron(mask, np.ones((20, 20)))
    for patch, (x0, y0, x1, y1) in enumerate(grid.boxes):
        rows = slice(round(y0 * 20), round(y1 * 20))
        columns = slice(max(0, round(x0 * 20)), min(600, round(x1 * 20)))
        assert to_patches(mask, grid)[patch] == pytest.approx(fine[rows, columns].mean(), abs=0.01)


def test_padding_does_not_count_against_a_patch():
    grid = regular_grid((0.0, -5.0, 10.0, 15.0), 4, 2, 10, 10)
    np.testing.assert_array_equal(to_patches(np.ones((10, 10), bool), grid), [0, 0, 1, 1, 1, 1, 0, 0])
    half = regular_grid((0.0, -6.0, 10.0, 14.0), 2, 1, 10, 10)
    np.testing.assert_allclose(to_patches(np.ones((10, 10), bool), half), [1, 1])
    sliver = regular_grid((0.0, -9.95, 10.0, 10.0), 2, 1, 10, 10)
    np.testing.assert_allclose(to_patches(np.ones((10, 10), bool), sliver)[1], 1)


def test_small_masks_do_not_vanish():
    grid = regular_grid((0.0, 0.0, 256.0, 256.0), 16, 16, 256, 256)
    mask = np.zeros((256, 256), bool)
    mask[128, :] = True
    result = to_patches(mask, grid).reshape(16, 16)
    np.testing.assert_allclose(result[8], 1 / 16)
    assert result.sum() == pytest.approx(1)
    assert to_patches(mask, grid, mode="nearest").sum() == 0


GOLDEN = np.load(Path(__file__).parents[1] / "files" / "golden_mask_transform.npz")
# Eleven of the sixteen masks that the index names are kept in the file.
NAMES = sorted(key.removesuffix("__mask") for key in GOLDEN if key.endswith("__mask"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("version", "edge"), [("v1_16", 16), ("v15_24", 24)])
def test_nearest_mode_equals_the_research_code(name, version, edge):
    mask = np.unpackbits(GOLDEN[f"{name}__mask"])[: 256 * 256].reshape(256, 256).astype(bool)
    grid = regular_grid((0.0, 0.0, 256.0, 256.0), edge, edge, 256, 256)
    expected = GOLDEN[f"{name}__{version}"]
    np.testing.assert_array_equal(to_patches(mask, grid, mode="nearest"), expected.ravel())


def test_nearest_mode_squashes_other_sizes_first():
    mask = np.zeros((128, 512), bool)
    mask[:, 256:] = True
    grid = regular_grid((0.0, 0.0, 512.0, 128.0), 16, 16, 128, 512)
    expected = np.tile(np.repeat([0, 1], 8), 16)
    np.testing.assert_array_equal(to_patches(mask, grid, mode="nearest"), expected)


def test_sharp_maps_give_each_pixel_its_patch():
    grid = regular_grid((0.0, -4.0, 12.0, 12.0), 4, 3, 8, 12)
    values = np.arange(12, dtype=np.float32)
    result = to_source(values, grid, smooth=False)
    np.testing.assert_array_equal(result, np.kron([[3, 4, 5], [6, 7, 8]], np.ones((4, 4))))
    np.testing.assert_allclose(to_patches(result, grid)[3:9], values[3:9])


def test_cropped_away_pixels_are_zero():
    grid = regular_grid((4.0, 0.0, 12.0, 8.0), 2, 2, 8, 16)
    for smooth in (True, False):
        result = to_source(np.ones(4), grid, smooth=smooth)
        assert (result[:, 4:12] == 1).all()
        assert (result[:, :4] == 0).all()
        assert (result[:, 12:] == 0).all()


@pytest.mark.parametrize(("height", "width"), [(90, 260), (301, 127)])
@pytest.mark.parametrize("name", CASES)
def test_the_peak_stays_where_its_patch_lies(name, height, width):
    grid = CASES[name].grid(height, width)
    inside = np.clip(grid.boxes, 0, [width, height, width, height])
    whole = np.flatnonzero((np.abs(inside - grid.boxes) < 1e-6).all(axis=1))
    for patch in whole[:: max(1, len(whole) // 5)]:
        values = np.zeros(grid.count)
        values[patch] = 1
        x0, y0, x1, y1 = grid.boxes[patch]
        for smooth in (True, False):
            y, x = np.unravel_index(np.argmax(to_source(values, grid, smooth=smooth)), (height, width))
            assert x0 - 0.5 <= x <= x1
            assert y0 - 0.5 <= y <= y1
        centroid = to_source(values, grid)
        assert (centroid.sum(0) @ (np.arange(width) + 0.5)) / centroid.sum() == pytest.approx(
            (x0 + x1) / 2, abs=0.6 * (x1 - x0)
        )


def test_smooth_maps_are_bilinear_between_patch_centres():
    grid = regular_grid((0.0, 0.0, 40.0, 10.0), 1, 4, 10, 40)
    result = to_source(np.array([0.0, 1.0, 0.0, 0.0]), grid)
    expected = np.interp(np.arange(40) + 0.5, [5, 15, 25], [0, 1, 0])
    np.testing.assert_allclose(result, np.tile(expected, (10, 1)), atol=1e-6)


def test_padding_does_not_shine_into_smooth_maps():
    grid = regular_grid((0.0, -10.0, 10.0, 10.0), 4, 2, 10, 10)
    result = to_source(np.array([9, 9, 9, 9, 1, 1, 1, 1.0]), grid)
    np.testing.assert_allclose(result, 1)


@pytest.mark.parametrize("name", ["tiles and overview last", "tiles on a tile axis", "overview and crops"])
def test_tiles_conserve_the_total_weight(name):
    grid = CASES[name].grid(120, 300)
    assert any(tile.overview for tile in grid.tiles)
    values = np.random.default_rng(0).random(grid.count)
    areas = (grid.boxes[:, 2] - grid.boxes[:, 0]) * (grid.boxes[:, 3] - grid.boxes[:, 1])
    total = to_source(values, grid, smooth=False).sum() / areas.min()
    assert total == pytest.approx(values.sum(), rel=0.05)
    parts = to_source(values, grid, tiles="overview") * areas.min() / areas.max()
    np.testing.assert_allclose(
        parts + to_source(values, grid, tiles="detail"), to_source(values, grid), rtol=0.05, atol=0.02
    )


def test_maps_are_continuous_across_the_seams_of_tiles():
    grid = CASES["tiles and overview last"].grid(200, 300)
    x = (grid.boxes[:, 0] + grid.boxes[:, 2]) / 2
    result = to_source(x, grid, tiles="detail")
    np.testing.assert_allclose(result[:, 10:-10], np.tile(np.arange(300) + 0.5, (200, 1))[:, 10:-10], atol=0.2)


def test_tiles_that_are_not_there_are_refused():
    grid = regular_grid((0.0, 0.0, 8.0, 8.0), 2, 2, 8, 8)
    with pytest.raises(RequestError, match="no overview tiles"):
        to_source(np.ones(4), grid, tiles="overview")
    with pytest.raises(RequestError, match="'first'"):
        to_source(np.ones(4), grid, tiles="first")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda grid: to_patches(np.ones((8, 9)), grid), r"8 x 8 pixels"),
        (lambda grid: to_patches(np.ones((8, 8)), grid, mode="mean"), "'mean'"),
        (lambda grid: to_source(np.ones(5), grid), "each of the 4 patches"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(RequestError, match=message):
        call(regular_grid((0.0, 0.0, 8.0, 8.0), 2, 2, 8, 8))


def test_nearest_mode_needs_one_tile():
    grid = CASES["tiles and overview last"].grid(200, 300)
    with pytest.raises(RequestError, match="7 tiles"):
        to_patches(np.ones((200, 300)), grid, mode="nearest")
