"""The knowledge graph: things joined by relations, and the paths that answer a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rlchat_envs.core.facts import Triple
from rlchat_envs.knowledge.linking import Mention, Names
from rlchat_envs.knowledge.triples import ALSO_CALLED
from rlchat_envs.nlu.words import fold, stem, stems, stop_words, words

RELATION_SHARE = 0.5  # of a relation's stems that a text must have to ask for it

Node: TypeAlias = str  # a thing's folded name


@dataclass(frozen=True, slots=True)
class Path:
    """Triples of which each goes on where the one before ends."""

    triples: tuple[Triple, ...]

    @property
    def source(self) -> str:
        """Where the triples stand, each source once."""
        return ", ".join(dict.fromkeys(t.source for t in self.triples if t.source))

    def __str__(self) -> str:
        """As in ``bond fund -> yearly cost -> 0.45%``."""
        steps = (f" -> {t.relation} -> {t.object}" for t in self.triples)
        return self.triples[0].subject + "".join(steps)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A path, what it has in common with the question, and how well it fits."""

    path: Path
    shared: frozenset[str]  # stems of relations, and the thing it leads to if that is named
    fit: float

    def beats(self, other: _Answer) -> bool:
        """Whether ``other`` answers nothing that this one does not answer better."""
        mine, theirs = (self.fit, -len(self.path.triples)), (other.fit, -len(other.path.triples))
        more = self.shared > other.shared
        return more or (self.shared == other.shared and mine > theirs)


class Graph:
    """Answers questions from triples; a directed multigraph of networkx underneath.

    The relation ``also called`` gives a thing another name. Names differ only by more than case
    and accents.
    """

    def __init__(self, triples: Iterable[Triple]):
        """Build the graph."""
        import networkx as nx  # type: ignore[import-untyped]

        self.triples = tuple(triples)
        also = [t for t in self.triples if fold(t.relation) == ALSO_CALLED]
        self._same = {fold(t.object): fold(t.subject) for t in reversed(also)}
        self._graph = nx.MultiDiGraph()
        self._relations: dict[str, frozenset[str]] = {}
        names = [(t.object, self._node(t.subject)) for t in also]
        for order, triple in enumerate(self.triples):
            subject, thing = self._node(triple.subject), self._node(triple.object)
            names += [(triple.subject, subject), (triple.object, thing)]
            if fold(triple.relation) != ALSO_CALLED:
                self._graph.add_edge(subject, thing, order=order, triple=triple)
                self._relations[triple.relation] = frozenset(stems(triple.relation))
        self._names = Names(names)

    def link(self, text: str) -> tuple[str, ...]:
        """The things that a text names, folded, in order; see `linking.Names`."""
        return tuple(dict.fromkeys(m.thing for m in self._names.find(words(text))))

    def answer(self, text: str, k: int = 3, earlier: Sequence[str] = ()) -> list[Path]:
        """Find the paths that tell what a text asks.

        One hop: what a named thing has, or is, by a named relation. Two hops: the same of what a
        named thing is joined to; or whatever joins two named things. If nothing of the kind is
        found, the facts about what is named that have most in common with the text.

        Args:
            text: what was said.
            k: paths at most.
            earlier: what was said before, the latest first. If ``text`` names a relation but no
                thing, the things of the first of these that names some are meant.
        """
        said = words(text)
        mentions = self._names.find(said)
        asked = _unnamed(said, mentions)
        things = tuple(dict.fromkeys(m.thing for m in mentions if m.thing in self._graph))
        if not things and any(_shared(r, asked) for r in self._relations.values()):
            things = self._spoken_of(earlier, asked)
        answers = [a for thing in things for a in self._answers(thing, things, asked)]
        if not answers:
            answers = [a for thing in things for a in self._facts(thing, things, asked)]
        # Sorting is stable: equally good ones stay in the order of mention and of the triples.
        answers.sort(key=lambda a: (-a.fit, len(a.path.triples)))
        return list(dict.fromkeys(a.path for a in answers))[:k]

    def _spoken_of(self, earlier: Sequence[str], asked: frozenset[str]) -> tuple[Node, ...]:
        """What was named last and has what is asked for."""
        for things in map(self._things, earlier):
            if any(True for thing in things for _ in self._answers(thing, things, asked)):
                return things
        return ()

    def _things(self, text: str) -> tuple[Node, ...]:
        return tuple(thing for thing in self.link(text) if thing in self._graph)

    def _node(self, name: str) -> Node:
        folded = fold(name)
        return self._same.get(folded, folded)

    def _answers(
        self, thing: Node, named: Sequence[Node], asked: frozenset[str]
    ) -> Iterator[_Answer]:
        """What one thing has to do with the question, without what is answered better."""
        found = [
            answer
            for path, end in self._paths(thing)
            if (answer := self._judge(path, end if end in named else "", asked)).shared
        ]
        kinds = {(a.shared, a.fit, len(a.path.triples)): a for a in found}.values()
        return (a for a in found if not any(other.beats(a) for other in kinds))

    def _paths(self, thing: Node) -> Iterator[tuple[Path, Node]]:
        """One hop there and one back, and two hops there; each with the node it leads to."""
        for first, middle in self._from(thing):
            yield Path((first,)), middle
            for second, end in self._from(middle):
                if end != thing:
                    yield Path((first, second)), end
        yield from ((Path((triple,)), "") for triple, _ in self._to(thing))

    def _judge(self, path: Path, named_end: Node, asked: frozenset[str]) -> _Answer:
        """Weigh a path. It answers if the last relation is asked for, or its end is named."""
        relations = [self._relations[t.relation] for t in path.triples]
        shared = _shared(relations[-1], asked)
        fit = len(shared) / max(len(relations[-1]), 1)
        if named_end:
            shared, fit = shared | {f"-> {named_end}"}, fit + 1
        if shared and len(relations) > 1:
            shared |= _shared(relations[0], asked)
        return _Answer(path, shared, fit)

    def _facts(
        self, thing: Node, named: Sequence[Node], asked: frozenset[str]
    ) -> Iterator[_Answer]:
        """What is known of a thing, or else of what leads to it.

        Facts fit by the stems they share with the text, and what leads to a thing also by the
        number of named things that it leads to: of diseases, those with most of the symptoms.
        """
        for triple, _ in self._from(thing):
            shared = asked.intersection(stems(f"{triple.relation} {triple.object}"))
            yield _Answer(Path((triple,)), shared, len(shared))
        if not self._graph.out_degree(thing):
            for triple, node in self._to(thing):
                joined = sum(self._graph.has_edge(node, other) for other in named)
                yield _Answer(Path((triple,)), frozenset(), joined)

    def _from(self, node: Node) -> list[tuple[Triple, Node]]:
        edges = self._graph.out_edges(node, data=True)
        return [(d["triple"], end) for _, end, d in sorted(edges, key=lambda e: e[2]["order"])]

    def _to(self, node: Node) -> list[tuple[Triple, Node]]:
        edges = self._graph.in_edges(node, data=True)
        return [(d["triple"], start) for start, _, d in sorted(edges, key=lambda e: e[2]["order"])]


def _unnamed(said: Sequence[str], mentions: Sequence[Mention]) -> frozenset[str]:
    """The stems of the words outside of names: they ask for relations."""
    inside = {i for mention in mentions for i in range(mention.start, mention.stop)}
    return frozenset(
        stem(word) for i, word in enumerate(said) if i not in inside and word not in stop_words()
    )


def _shared(relation: frozenset[str], asked: frozenset[str]) -> frozenset[str]:
    """The stems that ask for a relation; none if they are too few of its own."""
    shared = relation & asked
    return shared if len(shared) >= RELATION_SHARE * len(relation) else frozenset()
