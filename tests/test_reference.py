"""docs/reference says what the docstrings say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import rlchat

ROOT = Path(__file__).parent.parent


def test_the_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    texts = reference.pages()
    folder = ROOT / "docs" / "reference"
    committed = {path.name: path.read_text("utf-8") for path in folder.glob("*.md")}
    stale = sorted(n for n in texts | committed if texts.get(n) != committed.get(n))
    assert not stale, f"docs/reference: {', '.join(stale)} stale; write anew with make reference"
    headings = {line for text in texts.values() for line in text.splitlines()}
    missing = [n for n in rlchat.__all__ if n != "__version__" and f"## `{n}`" not in headings]
    assert not missing
