"""Draws the house in docs/architecture.md, folder by folder, from the imports: ``make architecture``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- made from the imports -->\n", "<!-- end of what is made -->\n"


def folders(top: str) -> dict[str, list[Path]]:
    """Folder of a package -> its modules; the modules that lie in the package itself are one entry of its name."""
    found: dict[str, list[Path]] = {}
    for path in sorted((ROOT / top).rglob("*.py")):
        inner = path.relative_to(ROOT / top).parts
        found.setdefault(inner[0] if len(inner) > 1 else top, []).append(path)
    return found


def imported(path: Path) -> set[str]:
    """Dotted names that a module imports, wherever in it, those for the type checker alone left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.unparse(outer.test)
        for inner in ast.walk(outer)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def uses(top: str) -> dict[str, set[str]]:
    """Folder -> the folders of the same package that it imports."""
    modules = folders(top)
    found: dict[str, set[str]] = {}
    for folder, paths in modules.items():
        parts = [name.split(".") for path in paths for name in imported(path) if name.startswith(f"{top}.")]
        found[folder] = {part[1] if part[1] in modules else top for part in parts} - {folder}
    return found


def reduced(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The graph without the arrows that follow from others."""

    def reach(start: str, seen: set[str]) -> set[str]:
        for target in graph.get(start, set()) - seen:
            seen.add(target)
            reach(target, seen)
        return seen

    return {
        start: {target for target in targets if not any(target in reach(other, set()) for other in targets - {target})}
        for start, targets in graph.items()
    }


def about(top: str, folder: str) -> str:
    """The first sentence of a folder's docstring."""
    path = ROOT / top / ("" if folder == top else folder) / "__init__.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def render() -> str:
    """The picture, as Mermaid, and what each folder is."""
    lines, told = ["```mermaid", "flowchart TD"], []
    for top in ("app", "a3tune"):
        # Of the modules that lie in the package itself some stand under all folders and some over them.
        graph = {folder: targets - {top} for folder, targets in uses(top).items() if folder != top}
        lines.append(f"  subgraph {top}")
        lines += [f"    {top}_{folder}[{folder}]" for folder in sorted(graph)]
        lines += [
            f"    {top}_{folder} --> {top}_{target}"
            for folder, targets in sorted(reduced(graph).items())
            for target in sorted(targets)
        ]
        lines.append("  end")
        told += [f"| `{top}/{folder}/` | {about(top, folder)} |" for folder in sorted(graph)]
    lines += ["  app --> a3tune", "```"]
    return "\n".join([*lines, "", "| Folder | What it is |", "| --- | --- |", *told, ""])


def write() -> None:
    """Put the picture between the marks of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + render() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    write()
    sys.exit()
