"""Environments as agents meet them, the episodes played in them, and their trajectories.

Nothing here learns; agents come from `rlchat.inference`, rewards are added by `rlchat.rewards`.
Start with `environment`, then `collect` (batched) and `episodes` (any agent).
"""

import sys as _sys
from types import ModuleType as _ModuleType


class _Callable(_ModuleType):
    """This folder, which can be called: ``rlchat.rollout(agent, env)`` plays episodes.

    A folder and a function of the public API have one name. Python binds the folder to it as soon
    as a module of it is imported, in place of the function.
    """

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Play episodes of an agent; see `rlchat.rollout.episodes.rollout`."""
        from rlchat.rollout.episodes import rollout

        return rollout(*args, **kwargs)  # type: ignore[arg-type]


_sys.modules[__name__].__class__ = _Callable
