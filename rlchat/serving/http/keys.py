"""API keys: made at random, stored as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from rlchat.errors import UserError

VARIABLE = "RLCHAT_API_KEYS"
_LEAST = 20  # letters: fewer could be found by trying
_LINE = re.compile(r"sha256:([0-9a-f]{64})(?:\s+(\S.*))?")


@dataclass(frozen=True)
class Keys:
    """Hashes of the keys that are let in; without any, everybody is."""

    hashes: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        """Whether a key is needed."""
        return bool(self.hashes)

    def let_in(self, authorization: str) -> bool:
        """Whether an Authorization header has one of the keys; all are compared, whichever fits."""
        kind, _, key = authorization.partition(" ")
        own = hash_of(key.strip()) if kind.lower() == "bearer" else b""
        fits = [hmac.compare_digest(own, known) for known in self.hashes]
        return any(fits)


def hash_of(key: str) -> bytes:
    """SHA-256 of a key, hexadecimal. Keys are random and long: no slower hash is needed."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest().encode()


def read_keys(file: Path | None, environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys of a file, which holds their hashes, and of the environment variable.

    Raises:
        UserError: a file that cannot be read or holds something else, or a key that is too short.
    """
    hashes = [] if file is None else _read_file(file)
    for key in environment.get(VARIABLE, "").replace(",", " ").split():
        if len(key) < _LEAST:
            raise UserError(
                f"expected keys of at least {_LEAST} letters in {VARIABLE}; got one of {len(key)}; "
                "rlchat serve key makes one"
            )
        hashes.append(hash_of(key))
    return Keys(tuple(hashes))


def _read_file(file: Path) -> list[bytes]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"expected a readable file of keys; got {file} ({type(error).__name__}); "
            "rlchat serve key makes one"
        ) from error
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    read = [_LINE.fullmatch(line) for line in found]
    wrong = [number for number, match in enumerate(read, 1) if match is None]
    if wrong or not found:
        what = f"something else in entry {wrong[0]}" if wrong else "none"
        raise UserError(
            f"expected hashes of keys in {file}, as rlchat serve key writes them; got {what}; keys "
            "themselves are not kept in files"
        )
    return [match[1].encode() for match in read if match is not None]


def make_key(file: Path, name: str) -> str:
    """Make a key, and append its hash to a file that its owner alone can read.

    Raises:
        UserError: the file cannot be written, or a name of several lines.
    """
    if not name.isprintable():
        raise UserError(f"expected a name in one line; got {name!r}")
    key = f"rlchat-{secrets.token_urlsafe(32)}"
    line = " ".join(part for part in (f"sha256:{hash_of(key).decode()}", name.strip()) if part)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with os.fdopen(os.open(file, flags, 0o600), "a", encoding="utf-8") as out:
            out.write(f"{line}\n")
    except OSError as error:
        raise UserError(
            f"expected a file that can be written; got {file} ({error.strerror})"
        ) from error
    return key


def check_reach(host: str, keys: Keys) -> None:
    """Refuse to be reached from elsewhere without a key.

    Raises:
        UserError: the host is not this machine's own, and there are no keys.
    """
    if not keys and not is_loopback(host):
        raise UserError(
            f"expected keys where others can reach the server (--host {host}); got none; make one "
            f"with rlchat serve key and name its file with --keys, or set {VARIABLE}"
        )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
