"""The image of a question as a picture for people, of several one picture, with the places of all patches."""

from __future__ import annotations

from a3tune.geometry.side_by_side import side_by_side
from a3tune.models.model import VisionLanguageModel
from a3tune.training.collate import Question, load_images
from a3tune.types import MedicalImage, PatchGrid


def question_picture(model: VisionLanguageModel, question: Question) -> tuple[MedicalImage, PatchGrid]:
    """See `a3tune.geometry.side_by_side.side_by_side`.

    Raises:
        DataError: an image can no longer be read.
    """
    images, groups = load_images(question.item, model.convention), question.prompt.images
    pairs = zip(images, groups, strict=True)
    return side_by_side(images, [model.patch_grid(image.height, image.width, len(group)) for image, group in pairs])
