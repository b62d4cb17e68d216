"""Look-ups of documents and facts, from their names on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cache

from rlchat.errors import UserError
from rlchat.files import at_home
from rlchat.models.sentence_encoder import MiniLm
from rlchat_envs.knowledge import (
    Bm25Index,
    DenseIndex,
    Document,
    DocumentLookup,
    GraphLookup,
    HybridIndex,
    Index,
    Lookup,
    Triple,
    read_folder,
    read_triples,
)

LOOKUPS = ("bm25", "dense", "hybrid", "graph")


def make_lookup(name: str) -> Lookup:
    """A look-up as the command line names it: ``bm25``, ``graph:FILE``, ``hybrid:FOLDER``.

    Raises:
        UserError: no such kind, nothing readable at that place, or a package is not installed.
    """
    kind, _, place = name.partition(":")
    if kind not in LOOKUPS:
        near = get_close_matches(kind, LOOKUPS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"expected knowledge out of {', '.join(LOOKUPS)}; got {name!r}{hint}")
    try:
        if kind == "graph":
            return GraphLookup(_triples(place) if place else None)
        documents = read_folder(at_home(place)) if place else None
        return DocumentLookup(documents, _index(kind))
    except ValueError as error:
        raise UserError(f"--knowledge {name}: {error}") from error


def _triples(place: str) -> tuple[Triple, ...]:
    try:
        return read_triples(at_home(place))
    except ModuleNotFoundError as error:
        raise UserError(
            "expected the package rdflib, which reads Turtle; it is not installed; run "
            "pip install 'rlchat[turtle]'"
        ) from error


def _index(kind: str) -> Callable[[Sequence[Document]], Index]:
    if kind == "bm25":
        return Bm25Index
    made = DenseIndex if kind == "dense" else HybridIndex
    return lambda documents: made(documents, _minilm())


@cache
def _minilm() -> MiniLm:
    return MiniLm()
