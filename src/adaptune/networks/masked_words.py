"""Networks of texts as language models: they predict the words that were hidden."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from adaptune.networks.inputs import TextInput
from adaptune.networks.network import Network
from adaptune.networks.tokens import trade_padding
from adaptune.ops.masking import hide_words, masked_losses
from adaptune.runtime.inputs import in_eval, in_python

MASKS = ("[MASK]", "<mask>")
"""What tokenizers call the id that hides a word."""


class WordHead(nn.Module):
    """Logits of every word, by its vector in the network's table of words, with a bias.

    States of tokens are turned by a linear map that begins as the identity. It is tied to the
    table as BERT's is, and has neither its further layer nor its norm, which pretrained folders
    without a language model's head lack, and which would begin at random.

    ``mask`` is the id that hides a word, ``free`` (V,) says which ids may be hidden.

    Raises:
        ValueError: If the network has no states of tokens, or no word to hide others.
    """

    free: Tensor

    def __init__(self, net: Network) -> None:
        super().__init__()
        look = net.preprocess
        if not isinstance(look, TextInput):
            raise ValueError(
                "hidden words are those of texts, and this network reads images: give --backbone "
                "minilm or hf:FOLDER, or choose another method"
            )
        if not look.tokenizer or not hasattr(net.body, "get_input_embeddings"):
            raise ValueError(
                "hidden words are predicted from states of tokens, and a bag of words has none: "
                "give --backbone minilm, or an encoder as hf:FOLDER"
            )
        words = table(net.body)
        self.mask, fixed = hidden_by(look)
        self.register_buffer("free", torch.ones(len(words), dtype=torch.bool), persistent=False)
        self.free[fixed] = False
        self.turn = nn.Linear(net.width, words.shape[1])
        nn.init.eye_(self.turn.weight)
        nn.init.zeros_(self.turn.bias)
        self.bias = nn.Parameter(words.new_zeros(len(words)))
        self.pad = look.pad

    def hide(self, ids: Tensor, draws: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Hide words of texts (N, L), as `hide_words` does."""
        return hide_words(ids, draws, self.free, mask=self.mask, share=share)

    def forward(self, body: nn.Module, read: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Read texts (N, L); give their features, and logits (M, V) of the words that are chosen.

        Columns of logits are ids as the network's inputs have them.
        """
        with token_states(body) as states:
            features = body(read)
        (found,) = states
        own = self.turn(found[chosen[:, : found.shape[1]]])
        said = own @ table(body).T + self.bias
        if self.pad:
            order = trade_padding(torch.arange(said.shape[1], device=said.device), self.pad)
            said = said[:, order]
        return features, said

    def losses(
        self, body: nn.Module, ids: Tensor, draws: Tensor, share: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Hide words of texts (N, L), as `hide_words` does, and predict them.

        Gives features of what is read, the sum of each text's losses (N,), and how many words were
        hidden in all.
        """
        read, chosen = self.hide(ids, draws, share)
        features, said = self(body, read, chosen)
        return features, masked_losses(said, ids[chosen], chosen), chosen.sum()

    @torch.no_grad()
    def log_likelihood(self, body: nn.Module, ids: Tensor, apart: int) -> Tensor:
        """Give the mean log-probability of each text's words, each of which is hidden once: (N,).

        The body is in eval mode; words hidden in one pass stand ``apart`` words from each other.
        """
        words = self.free[ids]
        number = words.cumsum(1)
        total = self.bias.new_zeros(len(ids))
        with in_eval(body):
            for turn in range(apart):
                chosen = words & (number % apart == turn)
                _, said = self(body, torch.where(chosen, self.mask, ids), chosen)
                total -= masked_losses(said, ids[chosen], chosen)
        return total / words.sum(1).clamp_min(1)


def table(body: Any) -> Tensor:
    """Give the vectors of all words that an encoder reads, (V, E)."""
    weight: Tensor = body.get_input_embeddings().weight
    return weight


@contextmanager
def token_states(body: nn.Module) -> Iterator[list[Tensor]]:
    """Keep the states of tokens (N, L, D) of an encoder's passes in a block, before pooling.

    What is padding in all rows may be cut from L.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: object, output: Any) -> None:
        kept.append(output.last_hidden_state)

    hook = body.register_forward_hook(keep, prepend=True)
    try:
        with in_python():
            yield kept
    finally:
        hook.remove()


def hidden_by(look: TextInput) -> tuple[int, list[int]]:
    """Give the id that hides a word, and all that are no words: ids as inputs have them.

    These are padding, what a tokenizer puts around every text, and what it says is special.

    Raises:
        ValueError: If its tokenizer knows no mask.
    """
    from tokenizers import Tokenizer

    read = Tokenizer.from_str(look.tokenizer)
    known = [read.token_to_id(name) for name in MASKS if read.token_to_id(name) is not None]
    if not known:
        raise ValueError(
            f"this network's tokenizer has no {' or '.join(MASKS)}, so no words can be hidden: "
            "give a folder of an encoder that was pretrained by predicting them"
        )
    read.no_padding()
    special = [number for number, one in read.get_added_tokens_decoder().items() if one.special]
    ids = torch.tensor([known[0], look.pad, *read.encode("").ids, *special])
    mask, *fixed = trade_padding(ids, look.pad).tolist()
    return mask, [mask, 0, *fixed]
