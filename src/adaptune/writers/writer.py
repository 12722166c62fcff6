"""What answers prompts: how it is called, how it is to write, and what it says where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

from adaptune.runtime.limits import MOST, SEEDS, check_range
from adaptune.runtime.seeds import seed_for

Writer = Callable[[str, int], str]
"""Answers a prompt; the number says how often the same prompt was asked before.

So a model that draws its words says something else each time, and the same again in another run.
"""

LONGEST = 2**20
"""Bytes of one answer at most: no text that is asked for here is longer than a book."""


class NoAnswerError(ValueError):
    """One prompt has no answer; others may have."""


@dataclass(frozen=True)
class Writing:
    """How a language model is asked.

    Args:
        model: The name by which an address knows its model.
        tokens: The most tokens of an answer.
        temperature: What logits are divided by before words are drawn; 0 takes the likeliest.
        seed: What decides the words that are drawn.
        chat: Whether the prompt is a message in a conversation, rather than a text that goes on. A
            folder whose tokenizer has no template for conversations goes on with it anyway.
        timeout: Seconds that an address has for an answer.
        retries: How many more times an address is asked that fails.
        key_variable: The environment variable with the key of an address; none by default.
    """

    model: str = ""
    tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    chat: bool = True
    timeout: float = 120.0
    retries: int = 4
    key_variable: str = ""

    def __post_init__(self) -> None:
        check_range("--tokens", self.tokens, 1, 2**16)
        check_range("--temperature", self.temperature, 0, 100)
        check_range("--seed", self.seed, *SEEDS)
        check_range("--timeout", self.timeout, 0, MOST, above=True)
        check_range("--retries", self.retries, 0, 100)

    def drawn_by(self, prompt: str, times: int) -> int:
        """Give the seed of one answer.

        >>> Writing().drawn_by("a", 0) != Writing().drawn_by("a", 1)
        True
        """
        text = crc32(prompt.encode("utf-8", "surrogatepass"))
        return seed_for(self.seed % 2**64, text, times)

    def describe(self) -> dict[str, object]:
        """Say what of it decides an answer."""
        names = ("model", "tokens", "temperature", "seed", "chat")
        return {name: getattr(self, name) for name in names}
