"""The names of columns and keys that are understood, beside those that a layout requires."""

OPTION_LETTERS, OPTION_NUMBERS = "abcdefghij", "0123456789"
LONG_NAMES = tuple(f"{word}{sign}" for word in ("option", "choice") for sign in ("_", " ", ""))
SHORT_NAMES = ("op", "")
"""What stands before the letter, or number, in the names of columns that hold an option each: option_a, opa, a."""

_OPTIONS = (
    *(f"{name}{mark}" for name in LONG_NAMES for mark in OPTION_LETTERS + OPTION_NUMBERS),
    *(f"{name}{letter}" for name in SHORT_NAMES for letter in OPTION_LETTERS),
    "options", "choices",
)  # fmt: skip
MOST_NUMBERED = 16
"""How many columns image_1, image_2, ... and mask_1, mask_2, ... a table may have."""
_NUMBERED = (f"{name}{sign}{number}" for name in ("image", "mask") for sign in ("_", "")
             for number in range(1, MOST_NUMBERED + 1))  # fmt: skip
TABLE_EXTRAS = (
    "answer_type", "split", "id", "organ", "location", "image_organ", "modality", "mask", "boxes", "context",
    "mask_values", "segment", *_NUMBERED, *_OPTIONS,
)  # fmt: skip
"""What a table may hold beside image, question and answer."""

CONVERSATIONS = ("conversatons", "conversation", "messages")
"""How LLaVA-Med's published files, and others, spell "conversations"."""

USUAL_NAMES = {
    "image": ("image", "img", "image_name", "img_name", "image_file", "image_path", "image_id", "filename", "file_name",
              "file", "path", "picture", "scan", "study"),
    "question": ("question", "query", "prompt", "instruction", "input", "q", "text"),
    "answer": ("answer", "response", "output", "label", "target", "ground_truth", "gt", "caption", "report", "a"),
    "answer_type": ("answer_type", "type", "question_type", "kind"),
    "split": ("split", "subset", "partition", "fold", "set", "phase"),
}  # fmt: skip
"""What is understood -> how others call such a column, the likeliest first; a person is asked before it counts."""
