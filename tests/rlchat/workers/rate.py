"""Rates replies, as the chat does, and prints what it was told is kept, until it is killed."""

from __future__ import annotations

import itertools
import os
import sys
from collections import namedtuple
from pathlib import Path

from rlchat.feedback.pii import masked
from rlchat.feedback.recorder import RatingContext, RatingRecorder

Said = namedtuple("Said", "text ids logprobs temperature")
Message = namedtuple("Message", "role content tools", defaults=((),))


def acknowledge(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main(path: str, who: str) -> None:
    context = RatingContext(who, "base", "tiny", "", 1.0, Path(path), masked)
    acknowledge("ready")
    ratings = RatingRecorder(context)
    for n in itertools.count():
        ratings.spoke(
            [Message("user", f"hello {n}")], Said(f"{who} {n}", (1, n), (-0.5, -1.0), 1.0)
        )
        ratings.rate("thumb", 1)
        if n % 3 == 0:
            ratings.rate("thumb", -1)  # a mind that changes
        acknowledge("thumb", n, -1 if n % 3 == 0 else 1)
        ratings.rate("comment", text=f"comment {who} {n}")
        acknowledge("comment", n, f"comment {who} {n}")


main(*sys.argv[1:])
