"""Writes docs/api.md, the public names of ``a3tune``, from their docstrings: ``make api``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import griffe
from griffe2md import default_config, render_object_docs

PAGE = Path(__file__).with_name("api.md")
SUBJECTS = {
    "models": "Models and prompts",
    "images": "Images",
    "inspection": "Inspection",
    "prefixes": "Several questions about one image",
    "attention": "Attention: capture, heads, metrics and losses",
    "geometry": "Patches and pixels",
    "figures": "Figures",
    "labels": "Weak labels",
    "adapters": "Adapters",
    "training": "Tuning",
    "evaluation": "Evaluation",
    "types": "Values",
    "errors": "Errors",
}
"""Folder of the library -> its heading; every public name lives in one of them."""

_HEAD = """# The public API

`import a3tune` gives the names below, each loaded when it is first asked for; it also makes A3MoE known to PEFT. What
is not named here may change. Made from the docstrings with `make api`; [the notebook](notebooks/quickstart.ipynb) shows
them at work.
"""
_PARSED: Any = {"warnings": False, "returns_multiple_items": False, "returns_named_value": False}
_OPTIONS = {
    **default_config,
    "heading_level": 3,
    "inherited_members": False,
    "line_length": 110,
    "members_order": "source",
    "show_bases": False,
    "show_if_no_docstring": False,
    "show_object_full_path": False,
    "show_root_full_path": False,
    "show_root_members_full_path": False,
    "show_signature_annotations": True,
    "summary": False,
}


def render() -> str:
    """The whole page in Markdown."""
    package = griffe.load("a3tune", docstring_parser="google", docstring_options=_PARSED)
    sections: dict[str, list[str]] = {subject: [] for subject in SUBJECTS}
    for name in sorted(package.exports or (), key=lambda name: (str(name)[0].isupper(), str(name))):
        item = cast(griffe.Alias, package.members[str(name)]).final_target
        text = render_object_docs(item, _OPTIONS)
        # The tool links types to pages that this one has not; roles of Sphinx are plain code in Markdown.
        text = re.sub(r"<code>(.*?)</code>", lambda found: f"`{_unlinked(found[1])}`", text)
        text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", _unlinked(text)).strip()
        place = f"From `{item.canonical_path.rpartition('.')[0]}`."
        sections[item.canonical_path.split(".")[1]].append(text.replace("\n", f"\n\n{place}\n", 1))
    parts = [f"## {SUBJECTS[subject]}\n\n" + "\n\n".join(texts) for subject, texts in sections.items() if texts]
    page = _with_short_lines("\n\n".join([_HEAD, *parts]))
    return re.sub(r"[ \t]+\n", "\n", re.sub(r"\n{3,}", "\n\n", page)) + "\n"


def _with_short_lines(page: str) -> str:
    """The page with its signatures broken into lines as the project's code is."""
    signature = re.compile(r"(?<=```python\n)(\w+\(.*\).*)(?=\n```)")
    code = "\n".join(f"def {found}: ..." for found in signature.findall(page))
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "api.pyi", "-"]
    done = subprocess.run(ruff, input=code, capture_output=True, text=True, check=True).stdout
    parts = iter(re.split(r"^def |: \.\.\.$", done, flags=re.MULTILINE)[1::2])
    return signature.sub(lambda _: next(parts), page)


def _unlinked(text: str) -> str:
    return re.sub(r"\[(\**`?[^\[\]]+?`?\**)\]\(#[^)]*\)", r"\1", text)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}: {len(PAGE.read_text(encoding='utf-8').splitlines())} lines\n")
