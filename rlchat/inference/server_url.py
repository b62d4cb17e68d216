"""Addresses of OpenAI-compatible servers, as MODEL@URL on the command line."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from rlchat.errors import UserError

EXAMPLE = "qwen3:4b@http://localhost:11434/v1"


def parse_spec(spec: str) -> tuple[str, str]:
    """Split ``MODEL@URL`` into the model and the address.

    Raises:
        UserError: it is something else, or the URL is none that can be asked.
    """
    found = re.fullmatch(r"(.*?)@(\w+:.*)", spec, re.DOTALL)
    if found is None or not found[1].strip() or not found[1].isprintable():
        raise UserError(
            f"expected MODEL@URL, as in {EXAMPLE}; got {_hidden(spec)!r}; put the model's name, "
            "an @ and the server's address there"
        )
    return found[1], check_url(found[2])


def check_url(url: str) -> str:
    """Refuse an address that is none of an OpenAI-compatible server; give it without last slash.

    Raises:
        UserError: so it is.
    """
    wrong = ""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.port == 0 or not _has_host(parts):
            wrong = "got another kind of address"
        elif parts.username is not None or parts.password is not None:
            wrong = "got one with a password in it; the key belongs into OPENAI_API_KEY"
        elif parts.query or parts.fragment or not url.isprintable() or " " in url:
            wrong = "got one with more behind its path, or with blanks"
        elif parts.path.rstrip("/").endswith("/completions"):
            wrong = "got the whole path; leave /chat/completions out"
    except ValueError as error:
        wrong = f"got one that cannot be read ({error})"
    if wrong:
        example = parse_spec(EXAMPLE)[1]
        raise UserError(f"expected a URL such as {example} in {_hidden(url)!r}; {wrong}")
    return url.rstrip("/")


def _has_host(parts: SplitResult) -> bool:
    """Whether an address has a host's name, in ASCII, or its IPv6 address."""
    name = parts.hostname or ""
    if "[" in parts.netloc:
        return bool(ip_address(name))  # ValueError if it is none
    return bool(re.fullmatch(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?", name, re.ASCII))


def _hidden(address: str) -> str:
    """An address without the password in it."""
    return re.sub(r"//[^/@]*@", "//***@", address)
