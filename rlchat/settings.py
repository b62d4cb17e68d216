"""Settings: what all option classes share."""

from __future__ import annotations

import math

from rlchat.errors import UserError


def expect(settings: object, name: str, holds: bool, what: str) -> None:
    """Refuse a setting that is out of range, or not a finite number.

    Raises:
        UserError: so it is.
    """
    value = getattr(settings, name)
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"expected {name} {what}; got {value}")


SEEDS = 2**32  # numpy, which transformers seeds too, knows no larger ones


def names(comma_separated: str) -> tuple[str, ...]:
    """``"a, b"`` as ``("a", "b")``."""
    return tuple(n.strip() for n in comma_separated.split(",") if n.strip())
