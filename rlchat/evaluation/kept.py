"""Episodes of a matrix on disk, a file a cell, so that a stopped evaluation goes on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlchat.errors import UserError
from rlchat.evaluation.blocks import Where
from rlchat.evaluation.evaluate import episode_from_json, episode_to_json
from rlchat.files import write_json
from rlchat.rollout.trajectory import Episode


class KeptEpisodes:
    """A folder of cells; each file is written whole, after every block."""

    def __init__(self, folder: Path):
        """Keep them in a folder, which is made.

        Raises:
            UserError: it cannot be.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"expected a folder that can be written after --out; got {folder} "
                f"({error.strerror}); name another"
            ) from error
        self.folder = folder

    def read(self, where: Where, version: str, block: int) -> list[Episode]:
        """Whole blocks that were played with the very same settings; none of others."""
        try:
            kept = json.loads(self._place(where).read_text("utf-8"))
            if kept["about"] != _about(where, version, block):
                return []
            return [episode_from_json(e) for e in kept["per_episode"]]
        except (OSError, ValueError, KeyError, TypeError):  # played anew
            return []

    def write(self, where: Where, version: str, block: int, episodes: Sequence[Episode]) -> None:
        """Keep what was played so far in the place of what was there."""
        about = _about(where, version, block)
        kept = {"about": about, "per_episode": [episode_to_json(e) for e in episodes]}
        write_json(self._place(where), kept)

    def add_answers(self, where: Where, episodes: Sequence[Episode]) -> None:
        """Keep what judges said of episodes that are there."""
        place = self._place(where)
        kept = json.loads(place.read_text("utf-8"))
        answers = {episode.index: episode.answers for episode in episodes}
        changed = False
        for entry in kept["per_episode"]:
            own = answers.get(entry["index"])
            if own and own != entry.get("answers"):
                entry["answers"], changed = own, True
        if changed:
            write_json(place, kept)

    def _place(self, where: Where) -> Path:
        """One file for an agent in an environment with its users, with a name to read."""
        names = [where.agent, where.env.env, *where.env.users, *where.env.knowledge]
        names += [f"style-{side}" for side in where.env.stated_style]
        told = re.sub(r"[^A-Za-z0-9.-]+", "-", "--".join(names)).strip("-.")[:100]
        digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]
        return self.folder / f"{told}-{digest}.json"


def _about(where: Where, version: str, block: int) -> dict[str, Any]:
    """What episodes depend on; how many there are is no part of it."""
    settings = asdict(where)
    del settings["config"]["episodes"]
    if not settings["env"]["stated_style"]:  # which episodes kept by earlier versions do not name
        del settings["env"]["stated_style"]
    about = {**settings, "version": version, "block": block}
    known: dict[str, Any] = json.loads(json.dumps(about, default=str))
    return known
