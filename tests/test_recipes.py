"""What belongs to each thing that people add (see CONTRIBUTING.md): a piece that is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from a3tune.attention.loss import FORMS, LossForm, alignment_loss, mass_loss
from a3tune.data.formats.layouts import LAYOUTS, Layout
from a3tune.models.quirks import QUIRKS, Quirk
from a3tune.training.config_file import load_config
from a3tune.training.methods import objective_of
from app.ui import TABS, Tab
from tests.attention.test_loss import BY_HAND
from tests.data.formats.test_layouts import BROKEN
from tests.support.tiny_models import BUILDERS
from tests.test_architecture import PAGE_RULES

ROOT = Path(__file__).resolve().parent.parent
LAYOUT_TESTS = "tests/data/formats/test_layouts.py"


def lacking(file: str, pieces: dict[str, str]) -> list[str]:
    """Words for each piece whose text is not in a file; ``pieces`` is text by what it is."""
    content = (ROOT / file).read_text(encoding="utf-8")
    return [f"{file} lacks {what}: {text}" for what, text in pieces.items() if text not in content]


def lacking_for_loss(name: str, form: LossForm) -> list[str]:
    missing = lacking("docs/attention_tuning.md", {f"the loss {name!r}": f"* `{name}`: {form.about}"})
    return missing if name in BY_HAND else [*missing, f"BY_HAND in tests/attention/test_loss.py lacks {name!r}"]


def lacking_for_quirk(model_type: str, quirk: Quirk) -> list[str]:
    missing = lacking("docs/models.md", {f"the class {model_type!r}": f"`{model_type}`"})
    missing += [] if quirk.why else [f"QUIRKS says not why {model_type!r} needs it"]
    return missing if model_type in BUILDERS else [*missing, f"BUILDERS of the tests lacks {model_type!r}"]


def lacking_for_layout(name: str, layout: Layout) -> list[str]:
    keys = ", ".join(f"`{key}`" for key in layout.required)
    missing = lacking("docs/tune_tab.md", {f"the layout {name!r}": f"| `{name}` | {layout.title} | {keys} |"})
    missing += lacking(LAYOUT_TESTS, {f"a good data set of {name!r}": f'dataset.layout == "{name}"'})
    return missing if name in BROKEN else [*missing, f"BROKEN in {LAYOUT_TESTS} lacks {name!r}"]


def lacking_for_tab(tab: Tab) -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = any(f"{tab.title} {word}" in readme for word in ("tab", "page"))
    missing = [] if told else [f"README.md says nothing of the {tab.title} tab"]
    folders = (f"app/{tab.id}/tab.py", f"tests/app/{tab.id}")
    missing += [f"there is no {path} for the tab {tab.id!r}" for path in folders if not (ROOT / path).exists()]
    return missing if tab.id in PAGE_RULES else [*missing, f"PAGE_RULES of the architecture's test lacks {tab.id!r}"]


def check_whole(missing: list[str]) -> None:
    """Every piece that is missing is told at once: a comparison of lists would show the first alone."""
    if missing:
        pytest.fail("\n".join(missing), pytrace=False)


@pytest.mark.parametrize("name", FORMS)
def test_every_loss_is_whole(name):
    check_whole(lacking_for_loss(name, FORMS[name]))


@pytest.mark.parametrize("model_type", QUIRKS)
def test_every_quirk_is_whole(model_type):
    check_whole(lacking_for_quirk(model_type, QUIRKS[model_type]))


@pytest.mark.parametrize("name", BUILDERS)
def test_every_class_is_documented(name):
    check_whole(lacking("docs/models.md", {"the class": f"`{name}`"}))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_whole(name):
    check_whole(lacking_for_layout(name, LAYOUTS[name]))


@pytest.mark.parametrize("tab", TABS, ids=lambda tab: tab.id)
def test_every_tab_is_whole(tab):
    check_whole(lacking_for_tab(tab))


def test_what_is_missing_is_named():
    assert lacking_for_loss("none_such", LossForm(mass_loss, "nothing")) == [
        "docs/attention_tuning.md lacks the loss 'none_such': * `none_such`: nothing",
        "BY_HAND in tests/attention/test_loss.py lacks 'none_such'",
    ]
    layout = Layout("none_such", "None", ("study",), lambda row, log: iter(()))
    assert [line.partition(":")[0] for line in lacking_for_layout("none_such", layout)] == [
        "docs/tune_tab.md lacks the layout 'none_such'",
        f"{LAYOUT_TESTS} lacks a good data set of 'none_such'",
        f"BROKEN in {LAYOUT_TESTS} lacks 'none_such'",
    ]
    assert len(lacking_for_quirk("none_such", Quirk(""))) == 3
    assert lacking_for_tab(Tab("none_such", "Nonesuch", print)) == [
        "README.md says nothing of the Nonesuch tab",
        "there is no app/none_such/tab.py for the tab 'none_such'",
        "there is no tests/app/none_such for the tab 'none_such'",
        "PAGE_RULES of the architecture's test lacks 'none_such'",
    ]


def test_all_that_is_missing_is_told():
    check_whole([])
    with pytest.raises(pytest.fail.Exception, match="one thing\nanother thing"):
        check_whole(["one thing", "another thing"])


def test_a_loss_is_a_function_and_a_row(monkeypatch, tiny_model):
    """A new loss is known to the configuration and to training by its row alone."""
    monkeypatch.setitem(FORMS, "twice", LossForm(lambda *args: 2 * mass_loss(*args), "twice the mass loss"))
    config = load_config("demo", {"alignment": "twice"})
    objective = objective_of(config, tiny_model("llava"))
    weights = torch.full((1, 2, 3, 4), 0.1)
    target = torch.tensor([[1.0, 0, 0, 0]])
    once, twice = (float(alignment_loss(weights, target, form=form)) for form in ("mass", objective.form))
    assert twice == pytest.approx(2 * once)
    assert once > 0
