"""A language model behind HTTP: the one client, of OpenAI-compatible chat completions."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from rlchat.errors import RunError, UserError
from rlchat_envs import Conversation, as_text
from rlchat_envs.users.llm_text import whole

if TYPE_CHECKING:  # it is slow to import, and needed for endpoints alone
    import openai

EXAMPLE = "qwen3:4b@http://localhost:11434/v1"
TRIES = 3  # of a reply that is no chat completion
WAIT = 0.5  # seconds before the second of them; the third waits twice as long
MOST_BYTES = 1 << 22  # of a reply
MOST_LETTERS = 20_000  # of a text in it: a longer one is no reply
_THOUGHTS = re.compile(r"\s*<think>.*?(?:</think>|\Z)", re.DOTALL)


class EndpointError(RunError):
    """The endpoint gave no usable answer, however often it was asked."""


class NothingSaid(EndpointError):
    """The server answered as it should, but without a word."""


class _Malformed(Exception):
    """A reply that is no chat completion; the message says what it is."""


class _Wordless(_Malformed):
    """A chat completion without a text."""


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


class Endpoint:
    """A model behind an OpenAI-compatible server.

    Requests that time out, do not get through or are turned away (408, 409, 429, 5xx) are repeated
    by the openai client, with exponential backoff or after what ``Retry-After`` says. Redirections
    are not followed: what is said goes to the named server alone. Several threads may ask at once.
    """

    def __init__(self, model: str, url: str, timeout_s: float = 60.0, retries: int = 4):
        """Prepare to ask; nothing is sent yet.

        Args:
            model: as the server calls it.
            url: up to, and without, ``/chat/completions``.
            timeout_s: seconds that one request may take.
            retries: of a request, after the first time.

        Raises:
            UserError: a setting out of range, a key that cannot be sent, or no openai package.
        """
        if not timeout_s > 0 or retries < 0:
            raise UserError(
                "expected a timeout above 0 seconds and retries of at least 0; got "
                f"{timeout_s} and {retries}"
            )
        self.model, self.url = model, check_url(url)
        self.timeout_s, self.retries = timeout_s, retries
        self._key = _key()
        self._openai = _import_openai()
        self._client = self._openai.OpenAI(
            api_key=self._key or "none",
            base_url=self.url,
            timeout=timeout_s,
            max_retries=retries,
            http_client=self._openai.DefaultHttpxClient(follow_redirects=False),
        )
        self._refused: set[str] = set()  # options that this server does not know
        self._answered = False  # before it has, what goes wrong is likely the address or the name

    @property
    def name(self) -> str:
        """The endpoint's name on the command line."""
        return f"{self.model}@{self.url}"

    def ask(
        self,
        conversation: Conversation,
        seed: int,
        temperature: float = 0.7,
        max_tokens: int | None = None,
    ) -> str:
        """Ask the model for the next message.

        What a look-up found goes with the user's message before it, marked ``[desk]``, as many
        servers know no such messages of their own. An option that the server refuses is left out
        from then on.

        Args:
            conversation: so far.
            seed: of the server's sampler; not every server heeds it.
            temperature: of the sampler.
            max_tokens: budget of the reply; the server's own if None.

        Returns:
            The text, without what a reasoning model thinks before it.

        Raises:
            UserError: the server does not know the key or the model, or is none of this kind.
            EndpointError: no usable answer after all tries.
        """
        chat = _chat(conversation)
        wishes = {"temperature": temperature, "seed": seed, "max_tokens": max_tokens}
        wrong: _Malformed | None = None
        for attempt in range(TRIES):
            if attempt:
                time.sleep(WAIT * 2 ** (attempt - 1))
                wishes["seed"] = seed + attempt  # the same seed would say the same
            try:
                return self._answer(chat, {k: v for k, v in wishes.items() if v is not None})
            except _Malformed as error:
                wrong = error
        if isinstance(wrong, _Wordless):
            raise NothingSaid(f"{self.name} gave {wrong}, {TRIES} times; raise its token budget")
        raise self._failure(
            f"expected chat completions from {self.name}; got {wrong}, {TRIES} times; check that "
            "the URL is an OpenAI-compatible one, which usually ends in /v1"
        )

    def _answer(self, chat: list[dict[str, str]], wishes: Mapping[str, float]) -> str:
        """Ask, and ask again without the options that are refused."""
        while True:
            sent = {name: wish for name, wish in wishes.items() if name not in self._refused}
            try:
                body = self._request(chat, sent)
                break
            except self._openai.BadRequestError as error:
                if not isinstance(error.param, str) or error.param not in sent:
                    raise self._explained(error) from error
                self._refused.add(error.param)
            except self._openai.OpenAIError as error:
                raise self._explained(error) from error
        text = self._text(body)
        if not text:
            raise _Wordless("a reply without a word")
        return text

    def _request(self, chat: list[dict[str, str]], options: Mapping[str, float]) -> bytes:
        """Send one request; read the reply in pieces, as its length and its pace are not ours."""
        import httpx2

        create: Any = self._client.chat.completions.with_streaming_response.create
        with create(model=self.model, messages=chat, **options) as response:
            body, deadline = bytearray(), time.monotonic() + self.timeout_s
            try:
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise _Malformed(f"a reply of more than {MOST_BYTES:,} bytes")
                    if time.monotonic() > deadline:
                        raise _Malformed(f"a reply that had no end in {self.timeout_s:g} s")
            except httpx2.HTTPError as error:
                raise _Malformed(f"a reply that broke off ({type(error).__name__})") from error
        return bytes(body)

    def _text(self, body: bytes) -> str:
        """The first choice's text; what counts is the body, as servers mislabel it."""
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _Malformed(f"no JSON but {self._excerpt(body)}") from error
        try:
            text = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise _Malformed(f"JSON without a choice: {self._excerpt(body)}") from error
        self._answered = True
        if text is not None and not isinstance(text, str):
            raise _Malformed(f"a content that is no text: {self._excerpt(body)}")
        text = _THOUGHTS.sub("", whole(text or ""), count=1).strip()
        if len(text) > MOST_LETTERS:
            raise _Malformed(f"a text of {len(text):,} letters, more than {MOST_LETTERS:,}")
        return text

    def _explained(self, error: openai.OpenAIError) -> UserError | EndpointError:
        """Say what the client's last error means to a person."""
        times = f"{self.retries + 1} times"
        if isinstance(error, self._openai.APITimeoutError):
            return EndpointError(f"{self.name} gave no answer in {self.timeout_s:g} s, {times}")
        if isinstance(error, self._openai.APIConnectionError):
            cause = str(error.__cause__ or error)
            return self._failure(
                f"expected a server at {self.url}; got no connection, {times} ({cause}); start it "
                "or check the address"
            )
        if not isinstance(error, self._openai.APIStatusError):
            return EndpointError(f"{self.name} could not be asked ({type(error).__name__})")
        status = error.status_code
        if status in (401, 403):
            state = "the one it holds" if self._key else "none, as it is not set"
            return UserError(
                f"expected a key for {self.url} in OPENAI_API_KEY; got {state}, and the server "
                f"says {status}; set it to a key of that server"
            )
        if status == 404:
            return UserError(
                f"expected {self.url} to serve a model called {self.model!r}; it says 404; check "
                "the name, and the URL, which usually ends in /v1"
            )
        said = self._excerpt(error.response.content)
        if status in (408, 409, 429) or status >= 500:
            return EndpointError(f"{self.name} turned requests away, {times}: {status}, {said}")
        return self._failure(f"expected {self.name} to answer; it says {status}: {said}")

    def _failure(self, sentence: str) -> UserError | EndpointError:
        return EndpointError(sentence) if self._answered else UserError(sentence)

    def _excerpt(self, body: bytes) -> str:
        """A reply's beginning, fit to be printed and without the key, should it hold it."""
        text = " ".join(body[: MOST_BYTES // 64].decode(errors="replace").split())
        text = text.replace(self._key, "***") if self._key else text
        return repr(text[:120]) if text else "nothing"


def _chat(conversation: Conversation) -> list[dict[str, str]]:
    """Messages as the server takes them, neighbours of one role made one."""
    neighbors = groupby(conversation, key=lambda m: "user" if m.role == "tool" else m.role)
    return [{"role": role, "content": whole(as_text(tuple(own)))} for role, own in neighbors]


def _key() -> str:
    """The key, empty if there is none.

    Raises:
        UserError: it cannot be sent; it is not shown.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(
            "expected OPENAI_API_KEY to hold one word of ASCII letters and signs; got something "
            "else; copy the key again, without blanks"
        )
    return key


def _import_openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise UserError(
            "expected the package openai, which asks servers of language models; it is not "
            "installed; run pip install 'rlchat[llm]'"
        ) from error
    return openai


def _has_host(parts: SplitResult) -> bool:
    """Whether an address has a host's name, in ASCII, or its IPv6 address."""
    name = parts.hostname or ""
    if "[" in parts.netloc:
        return bool(ip_address(name))  # ValueError if it is none
    return bool(re.fullmatch(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?", name, re.ASCII))


def _hidden(address: str) -> str:
    """An address without the password in it."""
    return re.sub(r"//[^/@]*@", "//***@", address)


@cache
def find_endpoint(spec: str) -> Endpoint:
    """The endpoint ``MODEL@URL``, one for all who ask.

    Raises:
        UserError: it is none.
    """
    return Endpoint(*parse_spec(spec))
