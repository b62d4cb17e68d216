"""Marks of a chat template that are ordinary text, kept out of what anybody says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

_BRACKETED = re.compile(r"<[^<>\n]{1,60}>|\[/?[^\[\]\n]{1,30}\]")
_ROUND = str.maketrans("<>[]{}", "()()()")


class Guard:
    """Rewrites marks in somebody's text, so that the text cannot pass for another message.

    Special tokens need no rewriting where text is tokenized without them; all else that marks
    messages does: bracketed words such as ``[INST]`` or ``<|user|>`` in round brackets, other words
    with a space before their last character.
    """

    def __init__(self, marks: Iterable[str]):
        """Guard against these marks, the longest first."""
        found = sorted(set(marks), key=lambda mark: (-len(mark), mark))
        self.marks = tuple(found)
        self._pattern = re.compile("|".join(map(re.escape, found))) if found else None

    def __call__(self, text: str) -> str:
        """The text without marks."""
        return text if self._pattern is None else self._pattern.sub(_harmless, text)


def _harmless(match: re.Match[str]) -> str:
    mark = match[0]
    ends = (mark[0] + mark[-1]).translate(_ROUND)
    if ends == mark[0] + mark[-1]:
        return f"{mark[:-1]} {mark[-1]}"
    return ends[0] + mark[1:-1] + ends[1]


def ordinary_marks(segments: Sequence[Sequence[str]], special: Collection[str]) -> set[str]:
    """Marks that a tokenizer takes for ordinary text, in what a template writes around messages.

    Args:
        segments: strings before, between and after messages' texts, of several conversations.
        special: strings of the special tokens, which no text turns into.
    """
    marks: set[str] = set()
    for pieces in segments:
        for i, piece in enumerate(pieces):
            plain = _without(piece, special)
            bracketed = _BRACKETED.findall(plain)
            marks.update(bracketed)
            # What alone separates two messages must not be written by either.
            if i > 0 and plain == piece and not bracketed and piece.strip():
                marks.add(piece.strip())
    return marks


def _without(text: str, special: Collection[str]) -> str:
    for token in sorted(special, key=len, reverse=True):
        text = text.replace(token, "\n")
    return text
