"""Settings: what all option classes share."""

from __future__ import annotations

import math
from typing import Literal

from rlchat.errors import UserError

SEEDS = 2**32  # numpy, which transformers seeds too, takes no larger ones
# Choices that options of several rooms have. They stand here, so that options can be read and
# explained without loading torch.
DTypeName = Literal["auto", "float32", "bfloat16"]
EngineName = Literal["own", "paged"]


def expect(settings: object, name: str, holds: bool, what: str) -> None:
    """Refuse a setting that is out of range, or not a finite number.

    Raises:
        UserError: so it is.
    """
    value = getattr(settings, name)
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"expected {name} {what}; got {value}")


def names(comma_separated: str) -> tuple[str, ...]:
    """``"a, b"`` as ``("a", "b")``."""
    return tuple(n.strip() for n in comma_separated.split(",") if n.strip())
