"""The part of a text that answers: a run of whole sentences, short enough for a conversation."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rlchat_envs.knowledge.documents import sentences
from rlchat_envs.nlu.words import stems


def excerpt(text: str, query: str, max_words: int, shown: Collection[str] = ()) -> tuple[str, ...]:
    """Choose the consecutive sentences that share the most stems with a query.

    Args:
        text: what was found.
        query: what it was found for.
        max_words: of the run; a first sentence that is longer alone is cut, with an ellipsis.
        shown: sentences that were shown before. They are left out, and what follows them must
            share a stem with the query to be worth showing.

    Returns:
        The sentences; of equally good runs the earliest; none if everything was shown.
    """
    asked = set(stems(query))
    parts = [cut(sentence, max_words) for sentence in sentences(text)]
    runs = list(_runs(parts, max_words, shown))
    if not runs:
        return ()
    shared = [len(asked.intersection(stems(" ".join(run)))) for run in runs]
    best = max(range(len(runs)), key=shared.__getitem__)
    fresh = not any(sentence in shown for sentence in parts)
    return runs[best] if fresh or shared[best] else ()


def cut(sentence: str, max_words: int) -> str:
    """The sentence, or its first words and an ellipsis if it is longer; white space is single."""
    said = sentence.split()
    return " ".join(said[:max_words]) + ("…" if len(said) > max_words else "")


def _runs(parts: list[str], max_words: int, shown: Collection[str]) -> Iterator[tuple[str, ...]]:
    """From every sentence that is new, as many as fit."""
    for start in range(len(parts)):
        run: list[str] = []
        for sentence in parts[start:]:
            if sentence in shown or len(" ".join([*run, sentence]).split()) > max_words:
                break
            run.append(sentence)
        if run:
            yield tuple(run)
