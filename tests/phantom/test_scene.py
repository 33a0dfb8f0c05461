from itertools import combinations

import cv2
import numpy as np
import pytest

from a3tune.errors import RequestError
from a3tune.phantom import HELD_OUT_SEEDS, KINDS, TRAINING_SEEDS, VALIDATION_SEEDS, Structure, make_phantom

# Organs that can share no pixel; ribs, spine and the like project onto others on a radiograph.
DISJOINT = {
    "chest": ("right lung", "left lung", "heart", "mediastinum", "diaphragm"),
    "brain": ("gray matter", "white matter", "ventricles", "skull"),
    "abdomen": (
        "liver", "gallbladder", "right kidney", "left kidney", "spleen", "stomach", "vertebra", "muscle", "fat",
    ),
}  # fmt: skip


def centroid(mask):
    rows, columns = np.nonzero(mask)
    return columns.mean(), rows.mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", ["standard", "shifted"])
def test_the_same_seed_gives_the_same_phantom(kind, style):
    np.random.seed(1)
    first = make_phantom(5, kind, style)
    np.random.seed(2)
    second = make_phantom(5, kind, style)
    assert np.array_equal(first.image.pixels, second.image.pixels)
    assert [item.name for item in first.structures] == [item.name for item in second.structures]
    for one, other in zip(first.structures, second.structures, strict=True):
        assert np.array_equal(one.mask, other.mask)


def test_other_seeds_give_other_phantoms():
    digests = {make_phantom(seed, kind).image.sha256 for kind in KINDS for seed in range(4)}
    assert len(digests) == 12


def test_the_seed_chooses_every_kind():
    kinds = [make_phantom(seed).kind for seed in range(24)]
    assert set(kinds) == set(KINDS)
    chosen = make_phantom(3)
    assert np.array_equal(chosen.image.pixels, make_phantom(3, chosen.kind).image.pixels)


def test_seed_ranges_are_disjoint():
    for one, other in combinations((TRAINING_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS), 2):
        assert one[-1] < other[0] or other[-1] < one[0]


def test_masks_fit_the_image_and_are_frozen(phantoms):
    for phantom in phantoms:
        names = [structure.name for structure in phantom.structures]
        assert len(set(names)) == len(names)
        for structure in phantom.structures:
            assert structure.mask.shape == (phantom.image.height, phantom.image.width)
            assert structure.mask.dtype == np.bool_
            assert structure.mask.any(), (phantom.seed, structure.name)
            assert not structure.mask.flags.writeable


def test_images_are_grey_with_some_not_square(phantoms):
    for phantom in phantoms:
        pixels = phantom.image.pixels
        assert np.array_equal(pixels[..., 0], pixels[..., 1])
        assert np.array_equal(pixels[..., 0], pixels[..., 2])
        assert pixels.std() > 20
    for kind in KINDS:
        assert len({phantom.image.pixels.shape for phantom in phantoms if phantom.kind == kind}) > 1


def test_organs_that_cannot_share_a_place_do_not(phantoms):
    for phantom in phantoms:
        for one, other in combinations(DISJOINT[phantom.kind], 2):
            both = phantom.structure(one).mask & phantom.structure(other).mask
            assert not both.any(), (phantom.seed, one, other)


def test_lesions_lie_in_their_organ_and_apart(phantoms):
    for phantom in phantoms:
        for lesion in phantom.lesions:
            organ = phantom.structure(lesion.organ)
            assert not (lesion.mask & ~organ.mask).any(), (phantom.seed, lesion.name)
            assert lesion.side == organ.side or organ.name == "gallbladder"
        for one, other in combinations(phantom.lesions, 2):
            apart = cv2.dilate(one.mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            assert not (apart & other.mask).any()


def test_lesions_are_in_one_piece_and_large_enough_at_128_pixels(phantoms):
    for phantom in phantoms:
        scale = 128 / min(phantom.image.height, phantom.image.width)
        for lesion in phantom.lesions:
            pieces, _ = cv2.connectedComponents(lesion.mask.astype(np.uint8), connectivity=4)
            assert pieces == 2
            assert 2 * np.sqrt(lesion.mask.sum() / np.pi) * scale >= 6
            assert cv2.distanceTransform(lesion.mask.astype(np.uint8), cv2.DIST_L2, 5).max() >= 4


def test_lesions_can_be_told_from_what_is_around_them(phantoms):
    faint, total = 0, 0
    for phantom in phantoms:
        grey = cv2.GaussianBlur(phantom.image.pixels[..., 0], (0, 0), 1).astype(np.float32)
        lesions = phantom.mask_of(lesion.name for lesion in phantom.lesions)
        for lesion in phantom.lesions:
            grown = cv2.dilate(lesion.mask.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool)
            around = grown & phantom.structure(lesion.organ).mask & ~lesions
            inside = lesion.mask
            total += 1
            faint += abs(grey[inside].mean() - grey[around].mean()) < 4
    assert total > 100
    assert faint / total < 0.05


def test_every_finding_and_device_comes_up(phantoms, shifted_phantoms):
    findings = {lesion.finding for phantom in phantoms for lesion in phantom.lesions}
    assert findings == {
        "nodule", "mass", "pneumonia", "effusion", "pneumothorax", "tumor", "infarct", "hemorrhage", "edema",
        "metastasis", "cyst", "stone", "abscess",
    }  # fmt: skip
    devices = {device.name for phantom in shifted_phantoms for device in phantom.of_kind("device")}
    assert devices == {
        "endotracheal tube", "nasogastric tube", "central line", "chest tube", "pacemaker", "ecg leads",
        "ventricular shunt", "feeding tube", "drain",
    }  # fmt: skip
    assert {len(phantom.lesions) for phantom in phantoms} == {0, 1, 2, 3}


def test_the_patients_right_is_on_the_images_left(phantoms, shifted_phantoms):
    pairs = {
        "chest": (("right lung", "left lung"), ("right lung", "heart")),
        "brain": (("right hemisphere", "left hemisphere"),),
        "abdomen": (("right kidney", "left kidney"), ("liver", "spleen"), ("gallbladder", "stomach")),
    }
    for phantom in (*phantoms, *shifted_phantoms):
        for right, left in pairs[phantom.kind]:
            assert centroid(phantom.structure(right).mask)[0] < centroid(phantom.structure(left).mask)[0]
        for marker in phantom.of_kind("marker"):
            column = centroid(marker.mask)[0]
            assert marker.name == f"{marker.side} marker"
            assert (column < phantom.image.width / 2) == (marker.side == "right")


def test_devices_with_a_side_lie_on_it(phantoms, shifted_phantoms):
    middle = {"chest": "spine", "brain": "ventricles", "abdomen": "vertebra"}
    checked = 0
    for phantom in (*phantoms, *shifted_phantoms):
        centre = centroid(phantom.structure(middle[phantom.kind]).mask)[0]
        for device in phantom.of_kind("device"):
            if device.side != "midline" and device.name not in ("central line", "nasogastric tube"):
                assert (centroid(device.mask)[0] < centre) == (device.side == "right"), (phantom.seed, device.name)
                checked += 1
    assert checked > 50


def test_shifted_style_shows_the_same_patient_otherwise(phantoms, shifted_phantoms):
    devices, noise, markers = [], [], []
    for standard, shifted in zip(phantoms, shifted_phantoms, strict=True):
        patient = [item for item in standard.structures if item.kind in ("organ", "lesion")]
        again = [item for item in shifted.structures if item.kind in ("organ", "lesion")]
        assert [item.name for item in patient] == [item.name for item in again]
        assert all(np.array_equal(one.mask, other.mask) for one, other in zip(patient, again, strict=True))
        assert standard.image.sha256 != shifted.image.sha256
        pair = (standard, shifted)
        devices.append([len(phantom.of_kind("device")) for phantom in pair])
        markers.append([len(phantom.of_kind("marker")) for phantom in pair])
        noise.append([np.abs(cv2.Laplacian(p.image.pixels[..., 0], cv2.CV_32F)).mean() for p in pair])
        low = [centroid(item.mask)[1] / shifted.image.height for item in shifted.of_kind("marker")]
        high = [centroid(item.mask)[1] / standard.image.height for item in standard.of_kind("marker")]
        assert all(position > 0.75 for position in low)
        assert all(position < 0.25 for position in high)
    for counts in (devices, markers, noise):
        standard, shifted = np.mean(counts, axis=0)
        assert shifted > 1.4 * standard


def test_lookups():
    phantom = make_phantom(1, "abdomen")
    assert phantom.structure("liver").side == "right"
    union = phantom.mask_of(["right kidney", "left kidney"])
    both = phantom.structure("right kidney").mask.sum() + phantom.structure("left kidney").mask.sum()
    assert union.sum() == both
    assert not phantom.mask_of(()).any()
    assert phantom.modality == "abdominal CT"
    assert phantom.image.modality == "CT"
    with pytest.raises(RequestError, match="heart"):
        phantom.structure("heart")


@pytest.mark.parametrize(
    ("arguments", "word"), [((1, "knee"), "knee"), ((1, "chest", "blurred"), "blurred"), ((-4,), "-4")]
)
def test_wrong_arguments_are_named(arguments, word):
    with pytest.raises(RequestError, match=word):
        make_phantom(*arguments)


def test_a_structure_needs_a_flat_bool_mask():
    with pytest.raises(ValueError, match="bool"):
        Structure("liver", "organ", np.zeros((4, 4), np.uint8), "right", "right side")


def test_the_brain_is_its_two_halves(phantoms):
    for phantom in phantoms:
        if phantom.kind == "brain":
            halves = [phantom.structure(f"{side} hemisphere").mask for side in ("right", "left")]
            assert np.array_equal(phantom.structure("brain").mask, halves[0] ^ halves[1])
