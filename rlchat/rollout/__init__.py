"""Environments as agents meet them, the episodes played in them, and their trajectories.

Nothing here learns; agents come from `rlchat.inference`, rewards are added by `rlchat.rewards`.
Start with `environment`, then `collect` (batched) and `episodes` (any agent).

The folder is a function of the public API as well: ``rlchat.rollout(agent, env)`` plays episodes;
see `rollout` below.
"""

import sys as _sys
from inspect import Signature as _Signature
from inspect import signature as _signature
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from rlchat.rollout.episodes import rollout

__all__ = ["rollout"]


class _Callable(_ModuleType):
    """This folder, which can be called as the function `rlchat.rollout.episodes.rollout`.

    A folder and a function of the public API have one name. Python binds the folder to it as soon
    as a module of it is imported, in place of the function.
    """

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Play episodes of an agent; see `rlchat.rollout.episodes.rollout`."""
        return self.rollout(*args, **kwargs)

    @property
    def __signature__(self) -> _Signature:
        """The function's, for `inspect.signature`."""
        return _signature(self.rollout)

    def __getattr__(self, name: str) -> _Any:
        """Load the function when it is first used: it brings torch."""
        if name != "rollout":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from rlchat.rollout import episodes

        self.__dict__[name] = episodes.rollout
        return episodes.rollout

    def __dir__(self) -> list[str]:
        """List the function beside what is loaded, for ``help``."""
        return sorted({*self.__dict__, *__all__})


_sys.modules[__name__].__class__ = _Callable
