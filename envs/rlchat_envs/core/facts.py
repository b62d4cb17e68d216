"""What a desk can know: documents and facts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text that can be found; ``source`` says where it stands, in a few letters."""

    title: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Triple:
    """One fact: ``subject`` and ``object`` are things, joined by ``relation``."""

    subject: str
    relation: str
    object: str
    source: str
