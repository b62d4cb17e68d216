"""Updates of a run from feedback: every one is a version, and only harmless ones count."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlchat import files
from rlchat.errors import UserError
from rlchat.models.adapter_io import adapter_hash
from rlchat.training.gate import GateDecision
from rlchat.training.inspection.version_card import tell_version
from rlchat.training.run_folder import RunFolder


@dataclass(frozen=True)
class Version:
    """One adapter that a run had, or would have had."""

    number: int
    time: str
    origin: str
    sha256: str
    accepted: bool
    reason: str

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Version:
        """Take back what a version's file says."""
        return cls(**{name: kept[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Versions:
    """The adapters of a run, numbered; 0 is what training left."""

    run: RunFolder

    @property
    def folder(self) -> Path:
        """The folder of the versions."""
        return self.run.folder / "versions"

    def place(self, number: int) -> Path:
        """Folder of one version, an adapter."""
        return self.folder / f"{number:03d}"

    def all(self) -> list[Version]:
        """Every version there is, in order."""
        kept = self.folder.glob("[0-9]*/version.json")
        found = [Version.from_json(json.loads(path.read_text("utf-8"))) for path in kept]
        return sorted(found, key=lambda version: version.number)

    @property
    def hashes(self) -> set[str]:
        """SHA-256 of the weights of every adapter that the run has, or had and still keeps."""
        run = self.run
        adapters = [f for f in (run.adapter, run.warm_start, run.best) if f.is_dir()]
        return {version.sha256 for version in self.all()} | {adapter_hash(f) for f in adapters}

    @property
    def current(self) -> int | None:
        """The version whose adapter the run has now; None if none of them."""
        now = adapter_hash(self.run.adapter)
        return next((v.number for v in reversed(self.all()) if v.sha256 == now), None)

    def keep(self, adapter: Path, origin: str, verdict: GateDecision | None = None) -> Version:
        """Keep a copy of an adapter, with what was thought of it."""
        known = self.all()
        number = known[-1].number + 1 if known else 0
        accepted = verdict is None or verdict.accepted
        version = Version(
            number,
            datetime.now(UTC).isoformat(timespec="seconds"),
            origin,
            adapter_hash(adapter),
            accepted,
            "" if verdict is None else verdict.reason,
        )
        with files.atomic_folder(self.place(number)) as new:
            _copy(adapter, new)
            more = {} if verdict is None else {"verdict": asdict(verdict)}
            files.write_json(new / "version.json", {**asdict(version), **more})
        return version

    def begin(self) -> int:
        """Make sure that the adapter which the run has now is a version; give its number."""
        if self.current is None:
            self.keep(self.run.adapter, "training" if not self.all() else "later training")
        current = self.current
        assert current is not None
        return current

    def use(self, number: int) -> None:
        """Make a version the run's adapter, and say so in its model card.

        Raises:
            UserError: there is none of that number.
        """
        known = {v.number: v for v in self.all()}
        if number not in known:
            raise UserError(
                f"expected a version out of {', '.join(map(str, known)) or 'none'}; got {number}; "
                "rlchat feedback versions lists them"
            )
        with files.atomic_folder(self.run.adapter) as new:
            _copy(self.place(number), new)
        tell_version(self.run, number, known[number].origin, known[number].reason)


def _copy(adapter: Path, new: Path) -> None:
    """An adapter's files, and nothing else that may lie beside them."""
    for path in adapter.iterdir():
        if path.is_file() and path.name != "version.json":
            shutil.copyfile(path, new / path.name)
