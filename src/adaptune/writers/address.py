"""Language models behind an address that the user names, asked as OpenAI's are."""

from __future__ import annotations

import json
import os
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from adaptune.writers.writer import LONGEST, NoAnswerError, Writing

OF_THE_PROMPT = (400, 413, 422)
"""Answers that say that this prompt cannot be answered."""

PASSING = (408, 425, 429)
"""Answers below 500 that may be others when asked again."""


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect, which would take prompts and key to where nobody named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class AddressWriter:
    """Asks an address of OpenAI's form, ``http://HOST:PORT/v1``, and no other.

    What fails in passing (no connection, time that runs out, 429, 500 and above, an answer that is
    no JSON) is asked again, after ``wait`` seconds and twice as long each time. The key comes from
    the environment alone and is shown nowhere.

    Raises:
        ValueError: If it is no such address, or the variable holds no key.
    """

    def __init__(self, address: str, writing: Writing, *, wait: float = 1.0) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError(
                "a writer's address is such as http://127.0.0.1:8000/v1, without a name or a "
                "password in it: give a key by --key-variable NAME"
            )
        variable = writing.key_variable
        self._key = os.environ.get(variable, "").strip() if variable else ""
        if variable and not self._key:
            raise ValueError(f"the variable {variable} is empty: set it to the key of the address")
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError(f"the key in {variable} has characters that no key has: set it again")
        self.writing, self.wait = writing, wait
        self.place = address.rstrip("/") + ("/chat/completions" if writing.chat else "/completions")
        self._opener = build_opener(_NoRedirect)

    def __call__(self, prompt: str, times: int) -> str:
        """Answer a prompt.

        Raises:
            NoAnswerError: If the address refuses the prompt, or its answer is too long.
            ConnectionError: If it fails again and again, or refuses whoever asks.
        """
        body = json.dumps(self._request(prompt, times)).encode()
        why = ""
        for turn in range(self.writing.retries + 1):
            if turn:
                time.sleep(self.wait * 2 ** (turn - 1))
            try:
                return _text_of(self._post(body))
            except HTTPError as error:
                why = f"status {error.code}: {self._shown(error)}"
                if error.code in OF_THE_PROMPT:
                    raise NoAnswerError(f"{self.place} refused a prompt, {why}") from None
                if error.code < 500 and error.code not in PASSING:
                    raise ConnectionError(
                        f"{self.place} answered with {why}; check the address, --model and "
                        "--key-variable"
                    ) from None
            except (OSError, HTTPException, _OddAnswerError) as error:
                why = self._hidden(str(error) or type(error).__name__)
        raise ConnectionError(
            f"{self.place} was asked {self.writing.retries + 1} times without an answer ({why}): "
            "see that it runs, or give a larger --timeout"
        )

    def _request(self, prompt: str, times: int) -> dict[str, Any]:
        own = self.writing
        asked = [{"role": "user", "content": prompt}]
        return {
            **({"model": own.model} if own.model else {}),
            **({"messages": asked} if own.chat else {"prompt": prompt}),
            "max_tokens": own.tokens,
            "temperature": own.temperature,
            "seed": own.drawn_by(prompt, times) % 2**31,
        }

    def _post(self, body: bytes) -> bytes:
        """Ask once; the timeout is for the whole answer, however slowly it comes."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        ends = time.monotonic() + self.writing.timeout
        request = Request(self.place, body, headers)
        content = b""
        with self._opener.open(request, timeout=self.writing.timeout) as answer:
            while part := answer.read1(2**16):
                content += part
                if len(content) > LONGEST:
                    raise NoAnswerError(f"{self.place} answered with more than {LONGEST} bytes")
                if time.monotonic() > ends:
                    raise TimeoutError(f"no whole answer after {self.writing.timeout:g} seconds")
        return content

    def _shown(self, error: HTTPError) -> str:
        try:
            with error:
                said = error.read(2000).decode("utf-8", "replace")
        except (OSError, HTTPException):
            said = ""
        return self._hidden(" ".join(said.split())[:200] or error.reason)

    def _hidden(self, said: str) -> str:
        return said.replace(self._key, "***") if self._key else said


class _OddAnswerError(ValueError):
    """An answer that is none of OpenAI's form."""


def _text_of(content: bytes) -> str:
    """Find the text in an answer; one that is null is empty.

    >>> _text_of(b'{"choices": [{"message": {"content": " yes "}}]}')
    'yes'
    """
    try:
        [first, *_] = json.loads(content)["choices"]
        text = first["message"]["content"] if "message" in first else first["text"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        start = content[:80].decode("utf-8", "replace")
        raise _OddAnswerError(f"its answer is not of OpenAI's form: {start!r}") from error
    if not isinstance(text, str | None):
        raise _OddAnswerError("its answer is no text")
    return (text or "").strip()
