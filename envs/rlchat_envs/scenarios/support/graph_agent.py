"""The classical desk: links what is said to what it knows, and answers from templates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation
from rlchat_envs.nlu.tfidf import TfIdf
from rlchat_envs.scenarios.support.agents import Speaker
from rlchat_envs.scenarios.support.goals import INTENTS, RESOLUTIONS, load_data
from rlchat_envs.scenarios.support.nlu import LEXICON

_RECORD = re.compile(r"\bStatus: ([^.]+)\.\s*(.*)")
_POLICY = re.compile(r"\bPolicy on ([^:]+): ([^.…]+)\.\s*(.*)")
_ASKED_OFTEN = 2  # times; somebody who does not tell it then has no such fact
_NAMES = {worded: name for name, worded in RESOLUTIONS.items()}


@dataclass
class Books:
    """What the desk has read so far."""

    status: str = ""  # of the order
    note: str = ""  # what the record says behind the status
    policies: dict[str, dict[str, str]] = field(default_factory=dict)  # rules, by subject
    subject: str = ""  # of the policy that the desk's own books gave; a look-up may be beside it
    remark: str = ""  # what that policy says behind its rules

    def rule(self, intent: str) -> str:
        """The resolution for the status, if the policy is known and knows the status."""
        return self.policies.get(INTENTS[intent].subject, {}).get(self.status, "")


def read_books(conversation: Conversation) -> Books:
    """Read records and policies in what the desk's books and look-ups have shown."""
    books = Books()
    for text in (m.content for m in conversation if m.role == "tool"):
        if found := _RECORD.search(text):
            books.status, books.note = found.groups()
        if found := _POLICY.search(text):
            subject, rules, remark = found.groups()
            if text.startswith("Policy on "):
                books.subject, books.remark = subject, remark
            books.policies[subject] = _rules(rules)
    return books


def _rules(text: str) -> dict[str, str]:
    pairs = (rule.partition(": ") for rule in text.split("; "))
    return {status: _NAMES[worded] for status, _, worded in pairs if worded in _NAMES}


@dataclass(frozen=True)
class Linker:
    """Finds the intent a customer comes with, from what is said.

    It is the one whose wordings on the training side are likest to the opening, among those that
    can have the record's status and whose detail the customer has not refused. A policy that the
    desk's books show settles it.
    """

    tfidf: TfIdf
    statuses: Mapping[str, Collection[str]]  # by intent

    def link(self, conversation: Conversation, books: Books) -> str:
        """The intent."""
        if books.subject:
            return next(n for n, intent in INTENTS.items() if intent.subject == books.subject)
        possible = self.possible(books)
        asked = Counter(
            slot
            for message in conversation
            if message.role == "assistant"
            for slot in LEXICON.understand(message.content).asks
        )
        open_still = [n for n in possible if asked[INTENTS[n].detail] < _ASKED_OFTEN]
        opening = next(m.content for m in conversation if m.role == "user")
        return self.tfidf.usual(opening, open_still or possible)

    def missing(self, intent: str, books: Books) -> list[str]:
        """Facts that have still to be asked for.

        A policy that was looked up will do if the status leaves no doubt about the intent.
        """
        missing = [] if books.status else ["order_number"]
        looked_up = books.rule(intent) and len(self.possible(books)) == 1
        return missing if books.subject or looked_up else [*missing, INTENTS[intent].detail]

    def possible(self, books: Books) -> list[str]:
        """The intents whose orders can have the record's status; all while there is no record."""
        fits = [n for n in INTENTS if not books.status or books.status in self.statuses[n]]
        return fits or list(INTENTS)


@cache
def easy_linker() -> Linker:
    """The linker of the easy tier."""
    side = load_data("phrasings")["train"]
    openings = {
        name: [
            line.replace("{item}", "")
            for line in (*side["opening"][name], *side["opening_terse"][name])
        ]
        for name in INTENTS
    }
    return Linker(TfIdf(openings), {name: i.outcomes for name, i in INTENTS.items()})


class KnowledgeGraphDesk:
    """Links the opening to an intent, asks for what that needs, and offers what the rule says.

    It reads the conversation only, never privileged information.
    """

    def __init__(self, seed: int | np.random.Generator = 0):
        """``seed`` chooses among wordings only."""
        self._speaker = Speaker(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what the rules say about what has been understood so far."""
        books, linker, speaker = read_books(conversation), easy_linker(), self._speaker
        intent = linker.link(conversation, books)
        if missing := linker.missing(intent, books):
            return f"{speaker.manner(conversation)} {speaker.ask(missing, kind=True)}"
        return speaker.offer(books.rule(intent), books.status, kind=True)
