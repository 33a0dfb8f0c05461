"""The glossary: one source for page and docs, every word of it on the page, none beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GLOSSARY = json.loads((ROOT / "app" / "common" / "static" / "glossary.json").read_text(encoding="utf-8"))


def test_the_docs_have_the_same_sentences():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)[1:]) == GLOSSARY | {"---": "---"}


def test_every_word_on_the_page_is_explained():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "app").rglob("*.html")]
    named = {term for page in pages for term in re.findall(r'data-term="([^"]+)"', page)}
    assert named <= GLOSSARY.keys()
    assert GLOSSARY.keys() - named == {"entropy"}, "an entry of a list, which the list's own words say"
