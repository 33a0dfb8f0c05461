"""The house rules that the source must keep, read from the syntax trees."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Rooms of the library from the ground up: a room may import rooms below it and, without a cycle, beside it.
LAYERS = (
    {"a3tune", "errors", "types", "waiting", "wording"},
    {
        "bundle",
        "figures",
        "geometry",
        "hub",
        "images",
        "options",
        "positions",
        "probing",
        "render",
        "storage",
        "terminal",
        "tiling",
    },
    {"adapters", "attention", "labels", "models"},
    {
        "catalogue",
        "doctor",
        "evaluation",
        "export",
        "faithfulness",
        "inspection",
        "labelling",
        "parity",
        "parity_golden",
        "parity_llava_med",
        "phantom",
        "report",
        "training",
    },
    {"cli"},
    {"__main__"},
)
# These exchange value objects from types and know nothing of each other.
STRANGERS = ("labels", "attention", "adapters")
# The page modules that speak to the library: all others go through them.
PAGE_SERVICES = {
    Path(f"app/{name}.py")
    for name in (
        *("guests", "models", "regions", "services", "slots", "takeaway", "trust", "visits"),
        *("tune_adapters", "tune_data", "tune_labels", "tuning"),
    )
}
# Heavy libraries that only the library and the page's services may load.
ENGINE = {"a3tune", "torch", "torchvision", "transformers", "peft", "open_clip", "segment_anything"}
# What a page module may take from the library: words and value objects, which cost and decide nothing.
VALUE_MODULES = {"a3tune.errors", "a3tune.types", "a3tune.waiting", "a3tune.wording"}
VALUE_NAMES = {
    "a3tune.__version__",
    "a3tune.catalogue.Entry",
    "a3tune.catalogue.Machine",
    "a3tune.images.AXES",
    "a3tune.images.WINDOW_PRESETS",
    "a3tune.faithfulness.FaithfulnessCurves",
    "a3tune.faithfulness.RandomisedWeights",
    "a3tune.inspection.AdapterView",
    "a3tune.inspection.ExpertChoice",
    "a3tune.inspection.Inspection",
}
# The page from the ground up, read as LAYERS.
PAGE_LAYERS = (
    {
        *("models", "models_present"),
        *(
            "errands",
            "examples",
            "first_look",
            "guests",
            "jobs",
            "present",
            "regions",
            "results",
            "runs",
            "services",
            "slots",
            "takeaway",
            "theme",
            "trust",
            "tune_adapters",
            "tune_data",
            "tune_labels",
            "tune_present",
            "tune_worker",
            "tuning",
            "values",
            "viewer",
            "visits",
            "widgets",
        ),
    },
    {"tabs"},
    {"ui"},
    {"app.py"},
)
# Lines that hold code: comments, docstrings and blank lines are free.
LONGEST_MODULE = 400

# Imports inside functions: (file, imported module) -> why it may not stand at the top.
LATE_IMPORTS = {
    ("a3tune/cli.py", "transformers.utils.logging"): "a bad image is told before transformers is loaded",
    ("a3tune/cli.py", "a3tune.adapters.switch"): "a bad image is told before torch is loaded",
    ("a3tune/cli.py", "a3tune.export"): "a bad image is told before torch is loaded",
    ("a3tune/cli.py", "a3tune.inspection"): "a bad image is told before torch is loaded",
    ("a3tune/cli.py", "a3tune.models.load"): "a bad image is told before torch is loaded",
    ("a3tune/cli.py", "a3tune.labelling.maker"): "a bad image is told before torch is loaded",
    ("a3tune/cli.py", "a3tune.labels.fuse"): "a bad image is told before torch is loaded",
    ("a3tune/cli.py", "a3tune.phantom.build"): "only demo build needs the training code",
    ("a3tune/cli.py", "a3tune.phantom.scorer_build"): "only demo scorer needs the training code",
    ("a3tune/cli.py", "a3tune.phantom.examples"): "only demo examples needs it",
    ("a3tune/cli.py", "a3tune.phantom.demo_sample"): "only demo sample needs the label pipeline",
    ("a3tune/cli.py", "a3tune.phantom.demo_adapters"): "only demo adapters needs the tuning code",
    ("a3tune/cli.py", "a3tune.parity"): "only parity needs it, and it loads torch",
    ("a3tune/cli.py", "a3tune.doctor"): "only doctor needs it, and it loads torch",
    ("a3tune/cli.py", "a3tune.parity_golden"): "only parity needs it, and it loads torch",
    ("a3tune/cli.py", "a3tune.parity_llava_med"): "only parity needs it, and it loads torch",
    ("a3tune/labelling/command.py", "a3tune.labelling.tasks"): "only folders and data sets need it, and pyarrow",
    ("a3tune/labelling/command.py", "a3tune.labelling.maker"): "a bad image is told before torch is loaded",
    ("a3tune/labelling/command.py", "a3tune.labelling.record"): "a bad image is told before torch is loaded",
    ("a3tune/labelling/command.py", "a3tune.labelling.batch"): "a bad image is told before torch is loaded",
    ("a3tune/training/command.py", "a3tune.training.config"): "a slip in the options is told before torch is loaded",
    (
        "a3tune/training/command.py",
        "a3tune.training.tuning",
    ): "a slip in the data is told before transformers is loaded",
    ("app/takeaway.py", "a3tune.export"): "torch came with the inspection",
    ("app/takeaway.py", "a3tune.figures"): "matplotlib's figures are wanted rarely",
    ("app/takeaway.py", "a3tune.report"): "torch came with the inspection",
    ("app/trust.py", "a3tune.faithfulness"): "torch came with the inspection",
    ("app/services.py", "a3tune.attention.metrics"): "torch came with the inspection",
    ("app/services.py", "a3tune.inspection"): "torch came with the inspection",
    ("app/slots.py", "a3tune.adapters.switch"): "loaded in a thread: the page answers before torch has come",
    ("app/slots.py", "a3tune.models.load"): "loaded in a thread: the page answers before torch has come",
    ("app/slots.py", "a3tune.models.memory"): "torch came with the model that is let go",
    ("app/models.py", "a3tune.catalogue"): "loads torch, which the page can do without until models are chosen",
    ("app/slots.py", "a3tune.inspection"): "loaded in a thread: the page answers before torch has come",
    ("app/slots.py", "a3tune.labelling.maker"): "loaded in a thread: the page answers before torch has come",
    ("app/regions.py", "a3tune.labels"): "torch comes with the parts, loaded in a thread",
    ("app/regions.py", "a3tune.labelling.record"): "torch comes with the parts, loaded in a thread",
    ("app/regions.py", "a3tune.attention.metrics"): "torch came with the inspection",
    ("app/regions.py", "a3tune.inspection"): "torch came with the inspection",
    ("app/tune_data.py", "a3tune.training.archive"): "loads pyarrow, which the page can do without until data comes",
    ("app/tune_data.py", "a3tune.training.intake"): "data comes later than the page",
    ("app/tune_data.py", "a3tune.training.public"): "data comes later than the page",
    ("app/tune_data.py", "a3tune.training.data"): "loads pyarrow, which the page can do without until data comes",
    ("app/tune_data.py", "a3tune.training.repair"): "data comes later than the page",
    ("app/tune_data.py", "a3tune.training.formats.layouts"): "data comes later than the page",
    ("app/tune_data.py", "a3tune.training.renaming"): "data comes later than the page",
    ("app/tune_labels.py", "a3tune.labels"): "torch comes with the parts, loaded in a thread",
    ("app/tune_labels.py", "a3tune.training.label_sources"): "torch comes with the parts, loaded in a thread",
    ("app/tune_labels.py", "a3tune.training.labelling"): "torch comes with the parts, loaded in a thread",
    ("app/tuning.py", "a3tune.training.config"): "loads torch, and plans are made after the page was served",
    ("app/tuning.py", "a3tune.training.intake"): "loads pyarrow, which the page can do without until data comes",
    ("app/tuning.py", "a3tune.training.foreign_run"): "loads peft, which the page can do without until a run comes",
    ("app/guests.py", "a3tune.adapters.switch"): "torch comes with the model, loaded in a thread",
    ("app/tune_adapters.py", "a3tune.training.card"): "loads peft, which comes with the first adapter",
    ("app/tune_adapters.py", "a3tune.training.run"): "comes with the first adapter",
    ("app/tune_adapters.py", "a3tune.training.publish"): "loads peft, which comes with the first adapter",
    ("app/tune_adapters.py", "a3tune.training.adapter_intake"): "loads peft, which comes with the first adapter",
    ("app/tuning.py", "a3tune.training.adapter_intake"): "loads peft, which comes with the first adapter",
}


class Import(NamedTuple):
    """One imported name: ``module`` is what is imported from, ``name`` the full dotted name, ``late`` inside a
    function."""

    module: str
    name: str
    late: bool
    line: int


def source_files() -> list[Path]:
    files = [*(ROOT / "a3tune").rglob("*.py"), *(ROOT / "app").rglob("*.py"), *ROOT.glob("app.py")]
    return sorted(path.relative_to(ROOT) for path in files)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def imports_in(tree: ast.Module, package: str) -> list[Import]:
    """Every import of a module that belongs to ``package``, relative ones made absolute."""
    late = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, alias.name, id(node) in late, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            found += [Import(module, f"{module}.{alias.name}", id(node) in late, node.lineno) for alias in node.names]
    return found


@cache
def imports_of(path: Path) -> list[Import]:
    return imports_in(tree_of(path), ".".join(path.parent.parts))


def room_of(path: Path) -> str:
    """The room a library file belongs to: its folder or module name under a3tune, the package itself for __init__."""
    parts = path.with_suffix("").parts[1:]
    return "a3tune" if parts == ("__init__",) else parts[0]


def library_rooms_imported(item: Import) -> set[str]:
    """The library's rooms that one import reaches; ``from a3tune import render`` counts as render."""
    if item.name.split(".")[0] != "a3tune":
        return set()
    parts = item.name.split(".")
    known = set().union(*LAYERS)
    return {parts[1]} if len(parts) > 1 and (parts[1] in known or item.module != "a3tune") else {"a3tune"}


def layer_of(room: str) -> int:
    return next((level for level, rooms in enumerate(LAYERS) if room in rooms), -1)


LIBRARY_FILES = [path for path in source_files() if path.parts[0] == "a3tune"]
PAGE_FILES = [path for path in source_files() if path.parts[0] in {"app", "app.py"}]


def named(path: Path) -> str:
    return path.as_posix()


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=named)
def test_library_modules_import_only_rooms_below_or_beside_them(path):
    room = room_of(path)
    assert layer_of(room) >= 0, f"{path}: say in LAYERS where the room {room!r} belongs"
    wrong = [
        f"{path}:{item.line} imports {item.name}"
        for item in imports_of(path)
        for target in library_rooms_imported(item)
        if not 0 <= layer_of(target) <= layer_of(room)
    ]
    assert wrong == []


def assert_acyclic(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_library_rooms_have_no_import_cycle():
    graph: dict[str, set[str]] = {}
    for path in LIBRARY_FILES:
        targets = set().union(*(library_rooms_imported(item) for item in imports_of(path)))
        graph.setdefault(room_of(path), set()).update(targets - {room_of(path)})
    assert_acyclic(graph)


def test_page_modules_have_no_import_cycle():
    graph: dict[str, set[str]] = {}
    for path in PAGE_FILES:
        own = path.with_suffix("").parts[1] if path.parts[0] == "app" else path.name
        targets = {item.name.split(".")[1] for item in imports_of(path) if item.name.startswith("app.")}
        graph.setdefault(own, set()).update(targets - {own})
    assert_acyclic(graph)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_labels_attention_and_adapters_know_neither_each_other_nor_models(stranger):
    forbidden = {*STRANGERS, "models"} - {stranger}
    wrong = [
        f"{path}:{item.line} imports {item.name}"
        for path in LIBRARY_FILES
        if room_of(path) == stranger
        for item in imports_of(path)
        if library_rooms_imported(item) & forbidden
    ]
    assert wrong == []


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=named)
def test_library_imports_nothing_of_the_page(path):
    wrong = [
        f"{path}:{item.line} imports {item.name}"
        for item in imports_of(path)
        if item.name.split(".")[0] in {"gradio", "gradio_client", "app", "spaces", "fastapi"}
    ]
    assert wrong == []


@pytest.mark.parametrize("path", PAGE_FILES, ids=named)
def test_page_reaches_the_library_through_services_only(path):
    allowed = ENGINE if path in PAGE_SERVICES else set()
    wrong = [
        f"{path}:{item.line} imports {item.name}"
        for item in imports_of(path)
        if item.name.split(".")[0] in ENGINE - allowed
        and item.module not in VALUE_MODULES
        and item.name not in VALUE_NAMES | VALUE_MODULES
    ]
    assert wrong == []


@pytest.mark.parametrize("path", PAGE_FILES, ids=named)
def test_page_modules_import_only_what_lies_below(path):
    def level(name: str) -> int:
        return next((number for number, names in enumerate(PAGE_LAYERS) if name in names), -1)

    own = "app.py" if path == Path("app.py") else path.with_suffix("").parts[1]
    if own == "__init__":
        assert [item.name for item in imports_of(path) if item.name.startswith("app.")] == []
        return
    assert level(own) >= 0, f"{path}: say in PAGE_LAYERS where {own!r} belongs"
    wrong = [
        f"{path}:{item.line} imports {item.name}"
        for item in imports_of(path)
        if item.name.startswith("app.") and not 0 <= level(item.name.split(".")[1]) <= level(own)
    ]
    assert wrong == []


def test_late_imports_are_only_the_ones_with_a_reason():
    found = {(path.as_posix(), item.module) for path in source_files() for item in imports_of(path) if item.late}
    assert found - set(LATE_IMPORTS) == set(), "import at the top of the module, or give the reason in LATE_IMPORTS"


def code_lines(tree: ast.Module) -> int:
    """How many lines the statements cover, docstrings left out."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                continue
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno
            lines.update(range(node.lineno, max(last, node.lineno) + 1))
    return len(lines)


def test_no_module_is_longer_than_one_sitting():
    lengths = {path.as_posix(): code_lines(tree_of(path)) for path in source_files()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def faults_in(tree: ast.Module) -> list[str]:
    """What no module of this project may do, with its line: run code from a checkpoint or a file, open the page to
    the world, swallow every exception."""
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            faults.append(f"{node.lineno}: bare except")
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        for name in ("trust_remote_code", "share", "allow_pickle", "shell"):
            value = keywords.get(name)
            if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
                faults.append(f"{node.lineno}: {called} with {name}")
        weights_only = keywords.get("weights_only")
        if called == "torch.load" and not (isinstance(weights_only, ast.Constant) and weights_only.value is True):
            faults.append(f"{node.lineno}: torch.load without weights_only=True")
        if called in {"eval", "exec", "os.system", "pickle.load", "pickle.loads"}:
            faults.append(f"{node.lineno}: {called}")
    return faults


@pytest.mark.parametrize("path", source_files(), ids=named)
def test_source_does_nothing_forbidden(path):
    assert [f"{path}:{fault}" for fault in faults_in(tree_of(path))] == []


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("load(x, trust_remote_code=True)", "1: load with trust_remote_code"),
        ("load(x, trust_remote_code=choice)", "1: load with trust_remote_code"),
        ("demo.launch(share=True)", "1: demo.launch with share"),
        ("np.load(f, allow_pickle=True)", "1: np.load with allow_pickle"),
        ("subprocess.run(c, shell=True)", "1: subprocess.run with shell"),
        ("torch.load(f)", "1: torch.load without weights_only=True"),
        ("torch.load(f, weights_only=False)", "1: torch.load without weights_only=True"),
        ("eval(text)", "1: eval"),
        ("try:\n    x\nexcept:\n    y", "3: bare except"),
    ],
)
def test_the_fault_finder_finds(code, fault):
    assert faults_in(ast.parse(code)) == [fault]


def test_the_fault_finder_lets_the_safe_forms_pass():
    safe = "torch.load(f, weights_only=True); load(x, trust_remote_code=False); demo.launch(share=False); model.eval()"
    assert faults_in(ast.parse(safe)) == []


def test_the_import_reader_sees_late_relative_and_plain_imports():
    code = "import torch.nn\nfrom a3tune import render\ndef f():\n    from ..labels.sam import Sam\n"
    found = imports_in(ast.parse(code), "a3tune.models.deep")
    assert [(item.name, item.late) for item in found] == [
        ("torch.nn", False),
        ("a3tune.render", False),
        ("a3tune.models.labels.sam.Sam", True),
    ]
    assert [library_rooms_imported(item) for item in found] == [set(), {"render"}, {"models"}]
