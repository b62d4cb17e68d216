"""Looking up what the user's latest message calls for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rlchat_envs.core.facts import Document, Triple
from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.knowledge.excerpt import cut, excerpt
from rlchat_envs.knowledge.graph import Graph
from rlchat_envs.knowledge.retrieval import Bm25Index, Index
from rlchat_envs.nlu.words import stems

CONTENT_WORDS = 4  # a message with fewer is searched for together with the opening
OPENING_WORDS = 40

MakeIndex = Callable[[Sequence[Document]], Index]


class Informed(Protocol):
    """What a case brings along for the desk to look up."""

    @property
    def documents(self) -> tuple[Document, ...]:
        """What can be read up."""
        ...

    @property
    def triples(self) -> tuple[Triple, ...]:
        """What the knowledge graph knows."""
        ...


class Lookup(Protocol):
    """Finds what is known about what a user says."""

    def begin(self, case: Informed | None) -> None:
        """Start an episode; None where there is no case, only talk."""
        ...

    def find(self, conversation: Conversation) -> tuple[Message, ...]:
        """Tool messages for the user's latest message; none twice in an episode."""
        ...


class DocumentLookup:
    """Reads up in documents: the best passages, as ``Found in SOURCE: text``."""

    def __init__(
        self,
        documents: Sequence[Document] | None = None,
        make_index: MakeIndex = Bm25Index,
        k: int = 2,
        max_words: int = 40,
    ):
        """Choose what is searched, and how.

        Args:
            documents: searched in every episode; those of the case if None.
            make_index: searches them; it decides what is too bad a match to be shown.
            k: messages at most, a turn.
            max_words: of a message, without the words that name the source.
        """
        _check(k=k, max_words=max_words)
        self.documents = None if documents is None else tuple(documents)
        self.make_index, self.k, self.max_words = make_index, k, max_words
        self._shown: dict[Document, set[str]] = {}
        self._indexed: tuple[Document, ...] = ()
        self._index: Index | None = None

    def begin(self, case: Informed | None) -> None:
        """See `Lookup`; documents that are the same as before stay indexed."""
        documents = self.documents if self.documents is not None else case.documents if case else ()
        if self._index is None or documents != self._indexed:
            self._index, self._indexed = self.make_index(documents), tuple(documents)
        self._shown = {}

    def find(self, conversation: Conversation) -> tuple[Message, ...]:
        """See `Lookup`."""
        query = document_query(conversation)
        if self._index is None or not query:
            return ()
        found = []
        for document, _ in self._index.search(query, self.k):
            shown = self._shown.setdefault(document, set())
            part = excerpt(document.text, query, self.max_words, shown)
            shown.update(part)
            if part:
                found.append(Message("tool", f"Found in {document.source}: {' '.join(part)}"))
        return tuple(found)


class GraphLookup:
    """Looks up in a knowledge graph: the answering paths, as ``Known: a -> relation -> b``."""

    def __init__(self, triples: Sequence[Triple] | None = None, k: int = 3, max_words: int = 40):
        """Choose what is looked up.

        Args:
            triples: the graph in every episode; those of the case if None.
            k: messages at most, a turn.
            max_words: of a path; it is cut behind that.
        """
        _check(k=k, max_words=max_words)
        self.triples = None if triples is None else tuple(triples)
        self.k, self.max_words = k, max_words
        self._shown: set[Triple] = set()
        self._graph: Graph | None = None

    def begin(self, case: Informed | None) -> None:
        """See `Lookup`; a graph that is the same as before stays built."""
        triples = self.triples if self.triples is not None else case.triples if case else ()
        if self._graph is None or triples != self._graph.triples:
            self._graph = Graph(triples)
        self._shown = set()

    def find(self, conversation: Conversation) -> tuple[Message, ...]:
        """See `Lookup`."""
        latest, *earlier = _said(conversation)
        found = []
        for path in self._graph.answer(latest, self.k, earlier) if self._graph else ():
            if not self._shown.issuperset(path.triples):
                self._shown.update(path.triples)
                source = f" ({path.source})" if path.source else ""
                found.append(Message("tool", f"Known: {cut(str(path), self.max_words)}{source}"))
        return tuple(found)


def document_query(conversation: Conversation) -> str:
    """What documents are searched for: the user's latest message.

    If it has fewer than `CONTENT_WORDS` words that mean something, the opening comes after it:
    "And what does it cost?" is about what the user came for. One without any calls for nothing.
    """
    said = [m.content for m in conversation if m.role == "user"]
    telling = len(stems(said[-1])) if said else 0
    if telling == 0:
        return ""
    if telling >= CONTENT_WORDS or len(said) == 1:
        return said[-1]
    return f"{said[-1]}\n{cut(said[0], OPENING_WORDS)}"


def _said(conversation: Conversation) -> list[str]:
    """The user's latest message, and what either side said before it, the latest first."""
    spoken = [m for m in conversation if m.role in ("user", "assistant")]
    while spoken and spoken[-1].role != "user":
        spoken.pop()
    return [m.content for m in reversed(spoken)] or [""]


def _check(**least_one: int) -> None:
    for name, value in least_one.items():
        if value < 1:
            raise ValueError(f"expected {name} of at least 1; got {value}")
