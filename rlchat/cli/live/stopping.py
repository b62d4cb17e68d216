"""Ctrl-C ends a command within two seconds, whatever an environment's code does with it.

Environments live in threads that nobody waits for. Three things would wait all the same: code that
bears the main thread only and swallows the interrupt there; Python, which at its end joins threads
that an environment has left behind; and the taking apart of all that was loaded, which takes
seconds beside other work and changes nothing.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

VERBS = ("train", "sweep", "sft", "eval", "judge", "play")
PATIENCE = 1.0  # seconds
_TICK = 0.1
# On the stack while an environment's code runs, or is waited for.
_ENVIRONMENTS = {"rlchat.rollout.environment", "rlchat.rollout.env_pool"}
_WORK = "rlchat.cli.main"
_CURSOR = "\x1b[?25h"  # shows it again: a live table has hidden it


def stoppable(work: Callable[[], int]) -> int:
    """Do something that Ctrl-C ends, and the program with it.

    What tidies up outside environments, such as a tracker, has all the time that it takes.

    Args:
        work: is done; KeyboardInterrupt is raised in it, and it gives the exit status.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return work()
    leaving: list[int] = []  # with what status, once Ctrl-C was pressed

    def stop(number: int, frame: FrameType | None) -> None:
        leaving.append(1)
        threading.Thread(target=_end_if_stuck, name="rlchat-stop", daemon=True).start()
        raise KeyboardInterrupt

    def leave() -> None:
        if leaving:
            _flush()
            os._exit(leaving[-1])

    atexit.register(leave)  # before others are, so that it comes after them
    signal.signal(signal.SIGINT, stop)
    try:
        status = work()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not leaving:
            atexit.unregister(leave)
    if leaving:
        leaving.append(status)
    return status


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a pipe that nobody reads, or that is closed
            stream.flush()


def _end_if_stuck() -> None:
    """End the program once it has been stuck for too long; it ends before that if it can."""
    stuck = time.monotonic()
    while True:
        time.sleep(_TICK)
        where = _modules_of_main_thread()
        at_work = _WORK in where
        if at_work and not _ENVIRONMENTS & where:
            stuck = time.monotonic()
        elif time.monotonic() - stuck > PATIENCE:
            if at_work:
                shown = _CURSOR if sys.stderr.isatty() else ""
                os.write(2, f"{shown}rlchat: stopped, in an environment that goes on\n".encode())
            os._exit(1)


def _modules_of_main_thread() -> set[str]:
    """Names of the modules whose code is on the main thread's stack."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    found = set()
    while frame is not None:
        found.add(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    return found
