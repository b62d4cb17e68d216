"""The model card of a run whose adapter is another version than training left."""

from __future__ import annotations

import yaml

from rlchat.files import write_text
from rlchat.models.adapter_io import adapter_hash
from rlchat.training.inspection.model_card import CARD, MARK, WITHOUT_PEOPLE, is_ours
from rlchat.training.run_folder import RunFolder

_NOTICE = "<!-- of a version -->"
_RESULTS = "\n## Results\n"


def tell_version(run: RunFolder, number: int, origin: str, reason: str) -> None:
    """Say in a run's card which version its adapter is now, and of which its results are.

    The card of the adapter that training left is kept beside the versions, and is the card again
    when that adapter is. A card that a person has taken over stays as it is; where there is none,
    none is made.

    Args:
        run: whose adapter was exchanged.
        number: of the version.
        origin: what it was learned from.
        reason: what was thought of it on held-out users; empty if it was not measured.
    """
    path, trained = run.folder / CARD, run.folder / "versions" / CARD
    if not path.is_file() or not is_ours(now := path.read_text("utf-8")):
        return
    if _NOTICE not in now:
        write_text(trained, now)
    if not trained.is_file():
        return
    card = trained.read_text("utf-8")
    if adapter_hash(run.adapter)[:12] not in card:
        card = _of_version(card, run, number, origin, reason)
    write_text(path, card)


def _of_version(card: str, run: RunFolder, number: int, origin: str, reason: str) -> str:
    """The card of training, without results that would be taken for this version's."""
    _, front, body = card.split("---\n", 2)
    data = yaml.safe_load(front)
    data.pop("model-index", None)
    told = f" Measured when it was made: {reason}." if reason else ""
    notice = (
        f"{_NOTICE}\n\n**The adapter is version {number} now** ({origin}; weights "
        f"{adapter_hash(run.adapter)[:12]}), not the one that this card was written for.{told} "
        "Results and settings below are those of the training; `rlchat eval FOLDER` measures this "
        "one, `versions/` has all."
    )
    front = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    body = body.replace(MARK, f"{MARK}\n\n{notice}", 1)
    body = body.replace(_RESULTS, "\n## Results of the training\n", 1).replace(WITHOUT_PEOPLE, "")
    return f"---\n{front}---\n{body}"
