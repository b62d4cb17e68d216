"""The classical desk of the hard tier: reads exceptions, and tells what the record contradicts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from rlchat_envs.core.messages import Conversation
from rlchat_envs.nlu.tfidf import TfIdf
from rlchat_envs.scenarios.support.goals import INTENTS, RESOLUTIONS, load_data
from rlchat_envs.scenarios.support.graph_agent import Books, Linker, read_books
from rlchat_envs.scenarios.support.hard.agents import HardSpeaker
from rlchat_envs.scenarios.support.hard.goals import contradicting_status
from rlchat_envs.scenarios.support.nlu import LEXICON

_EXCEPTION = re.compile(r"Exception: ([^:]+): ([^.]+)\.")
_LOOKED_UP = ("Found in ", "Known: ")


@cache
def hard_linker() -> Linker:
    """The linker of the hard tier."""
    easy, hard = (load_data(name)["train"] for name in ("phrasings", "hard/phrasings"))
    openings = {
        name: [
            line.replace("{item}", "")
            for line in (
                *easy["opening"][name],
                *easy["opening_terse"][name],
                *hard["second"][name],
                *hard["claim"][name],
            )
        ]
        for name in INTENTS
    }
    statuses = {n: (*i.outcomes, contradicting_status(n)) for n, i in INTENTS.items()}
    return Linker(TfIdf(openings), statuses)


class HardKnowledgeGraphDesk:
    """As the easy one, for one problem after the other; an offer ends a problem.

    It reads the conversation only. Look-ups do not count: a page that was cut short may lack the
    exception.
    """

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._speaker = HardSpeaker(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what the rules say about what has been understood of the present problem."""
        said, linker, speaker = since_offer(conversation), hard_linker(), self._speaker
        books = read_books(said)
        intent = linker.link(said, books)
        if missing := linker.missing(intent, books):
            return f"{speaker.manner(said)} {speaker.ask(missing, kind=True)}"
        resolution = excepted(books) or books.rule(intent)
        if books.status == contradicting_status(intent):
            return speaker.contradict(resolution, books.status, kind=True)
        return speaker.offer(resolution, books.status, kind=True)


def since_offer(conversation: Conversation) -> Conversation:
    """What was said since the last offer, without look-ups."""
    offers = [
        i
        for i, message in enumerate(conversation)
        if message.role == "assistant" and LEXICON.understand(message.content).offers
    ]
    said = conversation[max(offers, default=-1) + 1 :]
    return tuple(m for m in said if not m.content.startswith(_LOOKED_UP))


def excepted(books: Books) -> str:
    """The resolution that the policy's exception gives, if the record falls under it."""
    found = _EXCEPTION.search(books.remark)
    if found is None:
        return ""
    made_for, worded = found.groups()
    for exception in load_data("hard/catalogue")["exceptions"]:
        if exception["made_for"] == made_for and books.note in exception["fits"]:
            return next(name for name, known in RESOLUTIONS.items() if known == worded)
    return ""
