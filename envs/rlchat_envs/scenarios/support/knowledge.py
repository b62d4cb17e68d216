"""What the desk could read up or look up: the shop's handbook, and its rules as a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.knowledge.triples import ALSO_CALLED
from rlchat_envs.scenarios.support.goals import INTENTS, RESOLUTIONS, SLOTS, Rules, load_data


def documents(shop: str, policies: Mapping[str, str]) -> tuple[Document, ...]:
    """The shop's handbook, a page for each intent.

    Args:
        shop: whose handbook it is.
        policies: the worded policy, by intent.
    """
    return tuple(
        Document(page["title"], f"{policies[intent]} {page['about']}", _source(shop, page))
        for intent, page in load_data("handbook").items()
    )


def triples(shop: str, policies: Mapping[str, Rules]) -> tuple[Triple, ...]:
    """What each kind of case needs, and what a status leads to in it.

    Args:
        shop: whose rules they are.
        policies: the rules, by intent.
    """
    pages = load_data("handbook")
    return tuple(
        Triple(pages[intent]["called"], relation, thing, _source(shop, pages[intent]))
        for intent, rules in policies.items()
        for relation, thing in _facts(intent, rules, pages[intent])
    )


def answers(intent: str, policy: str, status: str, resolution: str) -> tuple[str, ...]:
    """What tells the right resolution: the policy as documents hold it, or a path of the graph."""
    called = load_data("handbook")[intent]["called"]
    return policy, f"{called} -> {status} -> {RESOLUTIONS[resolution]}"


def _facts(intent: str, rules: Rules, page: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in page["also"]:
        yield ALSO_CALLED, name
    # What tells the cases apart comes first: a look-up shows the first few facts of a thing.
    yield "needs", SLOTS[INTENTS[intent].detail]
    for status, resolution in rules:
        yield status, RESOLUTIONS[resolution]
    yield "needs", SLOTS["order_number"]


def _source(shop: str, page: Mapping[str, Any]) -> str:
    return f"{shop} handbook, {page['title'].lower()}"
