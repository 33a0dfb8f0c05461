import numpy as np
import pytest

from a3tune.phantom.shapes import Canvas, blob, closed_curve, largest_part, mirrored, open_curve, room_for


def test_curves_pass_through_their_control_points():
    control = np.array([(0.0, 0.0), (1.0, 0.5), (0.5, 1.0), (-0.5, 0.8)])
    line, loop = open_curve(control, samples=6), closed_curve(control, samples=6)
    assert np.allclose(line[::6], control)
    assert np.allclose(loop[::6], control)
    assert len(loop) == 24


def test_body_frame_and_pixels_are_inverse():
    canvas = Canvas(240, 300, rotation=0.1, scale=(1.1, 0.9), shift=(0.05, -0.02))
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    assert np.allclose(canvas.body(canvas.pixels(points)), points)
    x, y = canvas.ramp()
    row, column = 31, 207
    assert np.allclose(
        canvas.body(np.array([(column + 0.5, row + 0.5)]))[0], (x[row, column], y[row, column]), atol=1e-5
    )


def test_fill_covers_the_area_of_the_outline():
    canvas = Canvas(200, 260)
    square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    mask = canvas.fill(square)
    rows, columns = np.nonzero(mask)
    assert (rows.mean(), columns.mean()) == pytest.approx((99.5, 129.5), abs=0.6)
    assert mask.sum() == pytest.approx(100 * 100, rel=0.03)


def test_mirrored_is_its_own_inverse():
    points = blob(np.random.default_rng(1), (0.3, 0.1), (0.1, 0.2))
    assert np.array_equal(mirrored(mirrored(points)), points)
    assert mirrored(points)[:, 0].mean() == pytest.approx(-points[:, 0].mean())


def test_soft_keeps_the_middle_and_the_outside():
    canvas = Canvas(128, 128)
    mask = canvas.fill(blob(np.random.default_rng(2), (0, 0), (0.5, 0.5), 0.0))
    for sigma in (0, 1.5, 8):
        cover = canvas.soft(mask, sigma)
        assert cover[64, 64] > 0.99
        assert cover[2, 2] == 0


def test_room_for_keeps_clear_of_borders_and_of_what_is_taken():
    rng = np.random.default_rng(3)
    host, taken = np.ones((60, 80), dtype=bool), np.zeros((60, 80), dtype=bool)
    taken[:, :40] = True
    for _ in range(20):
        x, y = room_for(rng, host, taken, 8.0)
        assert 47 < x < 73
        assert 7 < y < 53
    assert room_for(rng, host, taken, 40.0) is None


def test_largest_part():
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:5, 2:5] = mask[10:16, 10:18] = True
    assert largest_part(mask).sum() == 48
    assert not largest_part(np.zeros((5, 5), dtype=bool)).any()
