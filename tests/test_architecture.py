"""The house rules that the source must keep, read from the syntax trees."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each folder (or module that stands alone) may import besides its own: one rule for each, from the ground up.
GROUND = {
    "errors",
    "types",
    "wording",
    "process",
    "progress",
    "storage",
    "sequence_positions",
    "encoding",
    "decoder_layers",
    "memory_advice",
    "offloading",
    "lack_of_memory",
    "recently_used",
    "state_dicts",
    "target_layers",
}
_SHARED = GROUND | {"hub", "hub_errors", "checkpoints", "device", "bundle", "geometry", "images", "figures"}
_MODEL_SIDE = _SHARED | {"models", "attention", "adapters", "prefixes"}
LIBRARY_RULES: dict[str, set[str]] = {
    "a3tune": {"peft_registration"},
    "peft_registration": set(),
    **{room: {"errors", "types"} for room in GROUND},
    "errors": set(),
    "types": {"errors"},
    "hub": GROUND,
    "hub_errors": GROUND,
    "checkpoints": GROUND | {"hub", "hub_errors"},
    "device": GROUND,
    "bundle": GROUND,
    "dicomweb": GROUND,
    "geometry": GROUND,
    "images": GROUND,
    "figures": GROUND,
    # These three exchange value objects from types and know nothing of each other, nor of the models.
    "attention": GROUND,
    "adapters": GROUND | {"images"},
    "labels": _SHARED | {"data"},
    "models": _SHARED,
    "prefixes": _SHARED | {"models", "attention", "adapters"},
    "data": GROUND | {"hub", "hub_errors", "images"},
    "phantom": GROUND,
    "inspection": _MODEL_SIDE,
    "evaluation": _MODEL_SIDE | {"data", "labels"},
    "training": _MODEL_SIDE | {"data", "labels", "evaluation"},
    "catalogue": _SHARED | {"models", "labels"},
    "model_permissions": _SHARED | {"models", "labels", "catalogue"},
    "parity": _MODEL_SIDE | {"labels", "inspection"},
    "demo": _MODEL_SIDE | {"data", "labels", "phantom", "inspection", "evaluation", "training"},
}
LIBRARY_RULES["cli"] = set(LIBRARY_RULES)
LIBRARY_RULES["__main__"] = {"cli"}
# The same for the page: a tab knows what all share, and no other tab.
PAGE_RULES: dict[str, set[str]] = {
    "app": set(),
    "engine": set(),
    "access": {"engine"},
    "common": {"engine", "access"},
    "jobs": {"engine", "access", "common"},
    "kept": {"engine", "common"},
    **{tab: {"engine", "access", "common"} for tab in ("inspect", "models", "privacy")},
    "evaluate": {"engine", "access", "common", "jobs"},
    "tune": {"engine", "access", "common", "jobs", "kept"},
    "server": {"engine"},
    "login": {"access"},
    "ui": {"engine", "access", "login", "server", "common", "jobs", "inspect", "tune", "evaluate", "models", "privacy"},
    "app.py": {"ui", "access", "engine", "common", "kept", "login", "server"},
}
# Libraries that compute: the page reaches them through a3tune.
COMPUTES = {"torch", "torchvision", "transformers", "peft", "open_clip", "segment_anything"}
MOST_FILES = 10
"""How many modules a folder of the page may hold beside its ``__init__``."""

LONGEST_MODULE = 400
"""How many lines a module may have, as ``wc -l`` counts them."""
BENCHMARKS = sorted(path.relative_to(ROOT) for path in (ROOT / "benchmarks").glob("*.py"))

# Libraries that take long to load. Only a module that loads one of them, directly or through others, is imported
# inside a function, and only by a module that loads none of its own accord.
SLOW = {
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "open_clip",
    "segment_anything",
    "pyarrow",
    "openpyxl",
    "dicomweb_client",
    "matplotlib.figure",
} | {
    "scipy.stats",
    "statsmodels",
    "nltk",
    "authlib",
    "cryptography",
}
# Gradio brings these with it.
BROUGHT = {"gradio": {"pyarrow"}}


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
    """The library's rooms that one import reaches; ``from a3tune import hub`` counts as hub."""
    parts = item.name.split(".")
    if parts[0] != "a3tune":
        return set()
    return {parts[1]} if len(parts) > 1 and (parts[1] in LIBRARY_RULES or item.module != "a3tune") else {"a3tune"}


def page_rooms_imported(item: Import) -> set[str]:
    """The page's rooms that one import reaches."""
    parts = item.name.split(".")
    return {parts[1]} if parts[0] == "app" and len(parts) > 1 else set()


def page_room_of(path: Path) -> str:
    if path == Path("app.py"):
        return "app.py"
    return "app" if path.name == "__init__.py" and len(path.parts) == 2 else Path(path.parts[1]).stem


LIBRARY_FILES = [path for path in source_files() if path.parts[0] == "a3tune"]
PAGE_FILES = [path for path in source_files() if path.parts[0] in {"app", "app.py"}]


def named(path: Path) -> str:
    return path.as_posix()


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=named)
def test_a_library_folder_imports_what_its_rule_allows(path):
    room = room_of(path)
    assert room in LIBRARY_RULES, f"{path}: say in LIBRARY_RULES what {room!r} may import"
    page = {"gradio", "gradio_client", "app", "spaces", "fastapi"}
    wrong = [
        f"{path}:{item.line} imports {item.name}"
        for item in imports_of(path)
        if library_rooms_imported(item) - LIBRARY_RULES[room] - {room, "a3tune"} or item.name.split(".")[0] in page
    ]
    assert wrong == []


@pytest.mark.parametrize("path", PAGE_FILES, ids=named)
def test_a_page_folder_imports_what_its_rule_allows(path):
    room = page_room_of(path)
    assert room in PAGE_RULES, f"{path}: say in PAGE_RULES what {room!r} may import"
    wrong = [
        f"{path}:{item.line} imports {item.name}"
        for item in imports_of(path)
        if page_rooms_imported(item) - PAGE_RULES[room] - {room} or item.name.split(".")[0] in COMPUTES
    ]
    assert wrong == []


@pytest.mark.parametrize("rules", [LIBRARY_RULES, PAGE_RULES], ids=["library", "page"])
def test_the_rules_allow_no_cycle(rules):
    TopologicalSorter({room: allowed - {room} for room, allowed in rules.items()}).prepare()


@pytest.mark.parametrize("top", ["a3tune", "app"])
def test_packages_have_no_import_cycle(top):
    folders = {".".join(path.parent.parts) for path in source_files() if path.parts[0] == top}
    graph: dict[str, set[str]] = {}
    for path in source_files():
        for item in imports_of(path) if path.parts[0] == top else ():
            parts = item.name.split(".")
            while parts and ".".join(parts) not in folders:
                parts.pop()
            graph.setdefault(".".join(path.parent.parts), set()).add(".".join(parts))
    # The top folder's own modules lie on several floors: the rules above order them.
    graph = {folder: targets - {folder, top, ""} for folder, targets in graph.items() if folder != top}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_no_folder_of_the_page_is_crowded():
    counts: dict[str, int] = {}
    for path in PAGE_FILES:
        if path.parts[0] == "app" and path.name != "__init__.py":
            counts[path.parent.as_posix()] = counts.get(path.parent.as_posix(), 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name; packages by the name of their folder."""
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in source_files()}


@cache
def lines_for_types(path: Path) -> set[int]:
    """The lines that only type checkers read."""
    blocks = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    return {
        inner.lineno
        for block in blocks
        for statement in block.body
        for inner in ast.walk(statement)
        if isinstance(inner, ast.stmt)
    }


def own_modules(item: Import) -> set[str]:
    """The project's modules that an import runs: the module, its packages, and a submodule imported by name."""
    names = [item.name, item.module]
    return {
        ".".join(name.split(".")[: length + 1]) for name in names for length in range(len(name.split(".")))
    } & modules().keys()


@cache
def slow_libraries(module: str) -> frozenset[str]:
    """The slow libraries that importing a module of the project loads."""
    seen, waiting, found = {module}, [module], set()
    while waiting:
        path = modules()[waiting.pop()]
        for item in imports_of(path):
            if item.late or item.line in lines_for_types(path):
                continue
            found |= {name for name in SLOW if f"{item.name}.".startswith(f"{name}.")} | BROUGHT.get(item.module, set())
            new = own_modules(item) - seen
            seen |= new
            waiting += new
    return frozenset(found)


def slow_libraries_in(item: Import) -> set[str]:
    """The slow libraries that an import loads."""
    direct = {name for name in SLOW if f"{item.name}.".startswith(f"{name}.")}
    return direct.union(*(slow_libraries(name) for name in own_modules(item)))


def test_only_slow_modules_are_imported_inside_functions():
    """An import inside a function saves start-up time: what it brings loads a slow library that its own module does
    not load."""
    needless = [
        f"{path}:{item.line} imports {item.name}"
        for module, path in modules().items()
        for item in imports_of(path)
        if item.late and slow_libraries_in(item) <= slow_libraries(module)
    ]
    assert needless == []


def test_only_slow_modules_are_loaded_by_name():
    path = modules()["app.engine.library"]
    named = [item for item in imports_of(path) if item.line in lines_for_types(path)]
    assert named
    assert [item.name for item in named if not slow_libraries_in(item)] == []
    assert slow_libraries("app.engine.library") == set()


def test_a_tuning_run_loads_nothing_for_its_verdict():
    """It compares two lists of answers, for which the libraries of an evaluation's tables would take a second."""
    assert slow_libraries("a3tune.evaluation.statistics") == set()


def test_no_module_is_longer_than_one_sitting():
    lengths = {path.as_posix(): (ROOT / path).read_bytes().count(b"\n") for path in [*source_files(), *BENCHMARKS]}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def faults_in(tree: ast.Module) -> list[str]:
    """What no module of this project may do, with its line: run code from a checkpoint or a file, open the page to
    the world, set what belongs to Gradio's queue, swallow every exception."""
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            faults.append(f"{node.lineno}: bare except")
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            owner = ast.unparse(node)
            if "._queue." in owner or (node.attr == "_queue" and not owner.startswith("self.")):
                faults.append(f"{node.lineno}: {owner} is Gradio's own")
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


CHANGES_THE_PROCESS = {
    *("setLevel", "addHandler", "basicConfig", "putenv", "set_threshold", "freeze"),
    *("os.environ.update", "os.environ.setdefault", "os.environ.pop", "gc.disable", "logging.disable"),
}


def changes_on_import(tree: ast.AST) -> list[str]:
    """What a module does to its whole process when imported: environment variables, loggers, garbage collection."""
    found = []
    waiting = list(ast.iter_child_nodes(tree))
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            called = ast.unparse(node.value)
            found += [f"{node.lineno}: {called}"] if called == "os.environ" else []
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if {called, called.rpartition(".")[2]} & CHANGES_THE_PROCESS:
                found.append(f"{node.lineno}: {called}")
    return found


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=named)
def test_importing_the_library_changes_nothing_of_the_process(path):
    assert changes_on_import(tree_of(path)) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("os.environ['A'] = '1'", ["1: os.environ"]),
        ("for name in names:\n    logging.getLogger(name).setLevel(50)", ["2: logging.getLogger(name).setLevel"]),
        ("class A:\n    os.environ.setdefault('A', '1')", ["2: os.environ.setdefault"]),
        ("def prepare():\n    os.environ['A'] = '1'\n    logger.setLevel(50)", []),
    ],
)
def test_a_change_of_the_process_is_found(code, found):
    assert changes_on_import(ast.parse(code)) == found


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
        ("page._queue = Queue()", "1: page._queue is Gradio's own"),
        ("page._queue.max_size = 3", "1: page._queue.max_size is Gradio's own"),
        ("try:\n    x\nexcept:\n    y", "3: bare except"),
    ],
)
def test_the_fault_finder_finds(code, fault):
    assert faults_in(ast.parse(code)) == [fault]


def test_the_fault_finder_lets_the_safe_forms_pass():
    safe = "torch.load(f, weights_only=True); load(x, trust_remote_code=False); demo.launch(share=False); model.eval()"
    assert faults_in(ast.parse(safe)) == []


def test_the_import_reader_sees_late_relative_and_plain_imports():
    code = "import torch.nn\nfrom a3tune import hub\ndef f():\n    from ..labels.sam import Sam\n"
    found = imports_in(ast.parse(code), "a3tune.models.deep")
    assert [(item.name, item.late) for item in found] == [
        ("torch.nn", False),
        ("a3tune.hub", False),
        ("a3tune.models.labels.sam.Sam", True),
    ]
    assert [library_rooms_imported(item) for item in found] == [set(), {"hub"}, {"models"}]
