"""Exports of ratings in trl's formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from rlchat.errors import UserError
from rlchat.feedback.store import Messages, Rating, Store, store_path

Format = Literal["preference", "kto", "sft"]


def stored_preferences(person: str = "") -> list[dict[str, Any]]:
    """Preferences in the store, in trl's preference format.

    Raises:
        UserError: there are no ratings.
    """
    with Store.open(existing_store()) as store:
        return list(preference_rows(store.ratings(person)))


def preference_rows(ratings: Iterable[Rating]) -> Iterator[dict[str, Any]]:
    """Pairs of a better and a worse reply to the same context, from /ab and /edit, for trl."""
    for rating in ratings:
        if rating.kind in ("pair", "edit") and rating.value:
            texts = [rating.reply.text, rating.other]
            better, worse = texts if rating.value > 0 else reversed(texts)
            yield {
                **_row("prompt", rating.reply.context),
                "chosen": _said(better),
                "rejected": _said(worse),
                "weight": 1.0,
                **_about(rating),
            }


def _thumbs(ratings: Iterable[Rating]) -> Iterator[dict[str, Any]]:
    for rating in ratings:
        if rating.kind == "thumb":
            yield {
                **_row("prompt", rating.reply.context),
                "completion": _said(rating.reply.text),
                "label": rating.value > 0,
                **_about(rating),
            }


def _demonstrations(ratings: Iterable[Rating]) -> Iterator[dict[str, Any]]:
    for rating in ratings:
        good = rating.other if rating.kind == "edit" else rating.reply.text
        if rating.kind == "edit" or (rating.kind == "thumb" and rating.value > 0):
            yield {**_row("messages", [*rating.reply.context, *_said(good)]), **_about(rating)}


ROWS: dict[Format, Callable[[Iterable[Rating]], Iterator[dict[str, Any]]]] = {
    "preference": preference_rows,
    "kto": _thumbs,
    "sft": _demonstrations,
}


def _row(field: str, messages: Messages) -> dict[str, Any]:
    """Messages, and beside them the functions that the first of them declares."""
    plain = [{"role": m["role"], "content": m["content"]} for m in messages]
    told = messages[0].get("tools") if messages else None
    return {field: plain, **({"tools": json.loads(told)} if told else {})}


def _said(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


def _about(rating: Rating) -> dict[str, Any]:
    session = rating.session
    return {"source": f"person:{session.person}", "turn": rating.reply.turn, "dialogue": session.id}


def existing_store() -> Path:
    """The path of the store, if there is one.

    Raises:
        UserError: none are.
    """
    path = store_path()
    if not path.is_file():
        raise UserError(f"expected ratings; there is no {path}; rate replies in rlchat chat first")
    return path
