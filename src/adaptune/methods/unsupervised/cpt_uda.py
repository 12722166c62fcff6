"""Continued pretraining on both domains."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.masked_words import WordHead
from adaptune.networks.network import Network
from adaptune.ops.mixing import row_draws
from adaptune.runtime.processes import add_up
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective, Rate, Unlabeled


class CPTUDA(Method):
    """Predict hidden words of source and target first, then learn the source's labels.

    In the first ``pretraining`` of the run the body, as a language model, predicts words that were
    hidden in texts of both domains, and no label is seen; then everything learns the labels of the
    source, and the target is not seen. Source: How Useful is Continued Pre-Training for Generative
    Unsupervised Domain Adaptation? (Uppaal et al., 2024). The paper asks language models that write
    the class as text; here a linear head classifies, as in their discriminative rivals.

    Four of five hidden words become the tokenizer's mask, one in ten any word and one in ten
    itself, as in BERT, and each domain's loss is the mean over its hidden words, of all processes.
    Logits of words are tied to the network's own table of words. What is hidden is drawn anew in
    every step.

    Ours: both phases are one run, under one schedule of rates and one optimiser; both domains count
    alike; the language model's head is a linear map that begins as the identity.

    Encoders of texts have no batch norms; networks without states of tokens, such as ngrams, and
    networks of images are refused.

    Args:
        lr: The rate of everything.
        pretraining: The share of the run in which hidden words are predicted; 0 is ``ft``.
        hidden: The share of words that are hidden.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True, tokens=True)
    setting: ClassVar[str] = "unsupervised"

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.03,
        pretraining: Annotated[float, Between(0.1, 0.9)] = 0.5,
        hidden: float = 0.15,
    ) -> None:
        super().__init__(net, task)
        if not (0 <= pretraining < 1 and 0 < hidden < 1):
            raise ValueError(
                "pretraining is a share of the run from 0 to below 1, hidden one of words between "
                f"0 and 1: got {pretraining} and {hidden}"
            )
        self.lr, self.pretraining, self.hidden = lr, pretraining, hidden
        self.words = WordHead(net)

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(one, self.lr) for one in (self.net.body, self.net.head, self.words)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move the body by hidden words, and later by labels."""
        moves = self.words if batch.progress < self.pretraining else self.net.head
        return descend(partial(self.objective, batch), self.net.body, moves)

    def objective(self, batch: Batch) -> Objective:
        """Ask for the words that are hidden on both sides, later for the source's labels."""
        if batch.progress >= self.pretraining:
            logits = self.net(batch.labeled.x)
            return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)
        features, ours = self.masked(batch.labeled)
        _, theirs = self.masked(batch.unlabeled)
        with torch.no_grad():
            logits = self.net.head(features)
        return Objective({"masked": (ours + theirs) / 2}, logits)

    def masked(self, rows: Unlabeled) -> tuple[Tensor, Tensor]:
        """Give the features of texts with hidden words, and the mean loss of these."""
        draws = row_draws(rows.index, 2 * rows.x.shape[1])
        features, losses, own = self.words.losses(self.net.body, rows.x, draws, self.hidden)
        count, total = add_up(torch.stack([own, own.new_tensor(len(losses))]))
        return features, losses.mean() * total / count.clamp_min(1)
