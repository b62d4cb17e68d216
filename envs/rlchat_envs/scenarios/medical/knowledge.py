"""The probabilistic graph of conditions, complaints, red flags, remedies and what forbids them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from rlchat_envs.knowledge import Triple

FORBIDS = ("is not taken with", "interacts with")  # from a remedy to a patient's background


@dataclass(frozen=True, slots=True)
class Edge:
    """One fact; ``chance`` is a probability where the relation has one, or else 0."""

    subject: str
    relation: str
    object: str
    chance: float
    source: str


@dataclass(frozen=True)
class CareGraph:
    """The edges, in the file's order."""

    edges: tuple[Edge, ...]

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The edges without their chances."""
        return tuple(Triple(e.subject, e.relation, e.object, e.source) for e in self.edges)

    def subjects(self, relation: str, thing: str) -> Mapping[str, float]:
        """What is joined to ``thing`` by ``relation``, with its chance."""
        found = (e for e in self.edges if e.relation == relation and e.object == thing)
        return {e.subject: e.chance for e in found}

    def objects(self, subject: str, relation: str) -> Mapping[str, float]:
        """What ``subject`` is joined to by ``relation``, with its chance."""
        found = (e for e in self.edges if e.relation == relation and e.subject == subject)
        return {e.object: e.chance for e in found}

    def forbids(self, remedy: str, background: str) -> bool:
        """Whether somebody with this background must not take the remedy."""
        return any(background in self.objects(remedy, relation) for relation in FORBIDS)


@cache
def care_graph() -> CareGraph:
    """Read graph.tsv: subject, relation, object, chance, source; ``#`` starts a comment."""
    text = resources.files("rlchat_envs.scenarios.medical").joinpath("graph.tsv").read_text("utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return CareGraph(
        tuple(
            Edge(
                row["subject"],
                row["relation"],
                row["object"],
                float(row["chance"] or 0.0),
                row["source"],
            )
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        )
    )
