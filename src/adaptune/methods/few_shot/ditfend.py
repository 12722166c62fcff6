"""Transfer of domains by episodes, and of texts by how a target's language model reads them."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.masked_words import WordHead
from adaptune.networks.network import Network
from adaptune.ops.inner_step import after_step, twice_differentiable
from adaptune.ops.likelihoods import shares
from adaptune.ops.mixing import row_draws
from adaptune.runtime.processes import gather
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Domains, Group, Labeled, Needs, Objective, Rate

READ = 16  # texts of the target that its language model reads in a step


class DITFEND(Method):
    """Learn domains by episodes, then learn most from texts that the target might have written.

    DATA and further domains are sources, the last ``--source NAME=DIR`` holds the few labelled
    texts of the target. In the first ``meta`` of the run the network learns of episodes: of each
    domain's texts in a batch one half makes a step of gradient descent, and the loss is that of the
    others after it, through the step (MAML). Meanwhile a language model of its own, a copy of the
    body, learns the target's texts by predicting hidden words. Then it stands still, and the
    network learns the labels of all domains, a source's text weighted by how well the language
    model predicts its words. Source: Improving Fake News Detection of Influential Domain via
    Domain- and Instance-Level Transfer (Nan et al., 2022).

    A text's score is the paper's, the mean log-probability of its words, each hidden in turn. The
    released code lacks what makes weights of scores; ours is the inverse of the perplexity to the
    power ``sharpness``, over its mean over a batch's texts of sources. Texts of the target have
    weight 1. Ours too: words that stand ``apart`` are hidden in one pass, all stages are one run
    under one schedule, and the language model's head begins as the identity, since encoders come
    without one. Of several processes each makes episodes of its own texts. A domain with one text
    in a batch makes no episode there, so give ``--balanced true`` where the target's are few.

    Encoders of texts have no batch norms; networks of images and bags of words are refused.

    Args:
        lr: The rate of everything.
        inner: The rate of an episode's step.
        meta: The share of the run that learns of episodes; of 0 the language model learns nothing.
        sharpness: How much more than others a text counts that is predicted well; of 0 all count
            alike.
        apart: How many words from each other those stand that are hidden together, to score a text;
            of as many as texts have they are hidden one by one.
    """

    needs: ClassVar[Needs] = Needs(domains=2, tokens=True)
    setting: ClassVar[str] = "few-shot"
    texts: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.03,
        inner: Annotated[float, Between(1e-5, 1e-1)] = 2e-4,
        meta: Annotated[float, Between(0.1, 0.9)] = 0.5,
        sharpness: float = 1.0,
        apart: int = 7,
    ) -> None:
        super().__init__(net, task)
        if not (0 <= meta < 1 and min(inner, sharpness) >= 0 and apart >= 1):
            said = f"got {meta}, {inner}, {sharpness} and {apart}"
            raise ValueError(f"meta is below 1, apart from 1 up, all others from 0 up: {said}")
        self.lr, self.inner, self.meta, self.sharpness, self.apart = (
            lr,
            inner,
            meta,
            sharpness,
            apart,
        )
        self.words, self.language = WordHead(net), deepcopy(net.body)
        self.register_buffer("texts", torch.zeros(0, 0, dtype=torch.int64))

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Keep the target's texts for its language model.

        Raises:
            ValueError: If there are none.
        """
        own = [rows.x[rows.domain == self.task.domains - 1] for rows in data.scan("train")]
        self.texts = gather(torch.cat(own).to(self.words.bias.device))
        if not len(self.texts):
            raise ValueError("ditfend needs texts of the target: give them as the last --source")
        return super().prepare(data)

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(one, self.lr) for one in (self.net, self.language, self.words)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move everything by episodes, later the network alone by weighted labels."""
        moves = (self.net,) if batch.progress >= self.meta else ()
        return descend(partial(self.objective, batch), *moves)

    def objective(self, batch: Batch) -> Objective:
        """Ask for labels after a step, and for the target's words; later for weighted labels."""
        rows = batch.labeled
        if batch.progress < self.meta:
            with twice_differentiable():
                loss, logits = self.episodes(rows)
            return Objective({"query": loss, "masked": self.masked()}, logits)
        losses = self.task.losses(logits := self.net(rows.x), rows.y)
        return Objective({"task": (self.weights(rows) * losses).mean()}, logits)

    def episodes(self, rows: Labeled) -> tuple[Tensor, Tensor]:
        """Give the mean loss of the domains' queries, and their logits."""
        losses, logits = [], []
        for domain in range(self.task.domains):
            support, query = (rows.domain == domain).nonzero().flatten().tensor_split(2)
            if len(query):
                told = self.task.loss(self.net(rows.x[support]), rows.y[support])
                logits.append(after_step(self.net, told, rows.x[query], self.inner))
                losses.append(self.task.loss(logits[-1], rows.y[query]))
        if not losses:
            return self.task.loss(alone := self.net(rows.x), rows.y), alone
        return torch.stack(losses).mean(), torch.cat(logits)

    def masked(self) -> Tensor:
        """Give the loss of hidden words in some of the target's texts, the same ones everywhere."""
        draws = row_draws(torch.arange(READ, device=self.texts.device), 1 + 2 * self.texts.shape[1])
        ids = self.texts[(draws[:, 0] * len(self.texts)).long().clamp_max(len(self.texts) - 1)]
        _, losses, number = self.words.losses(self.language, ids, draws[:, 1:], share=0.15)
        return losses.sum() / number.clamp_min(1)

    def weights(self, rows: Labeled) -> Tensor:
        """Give the weight of each text, (N,): of a source's by the target's language model."""
        source = rows.domain < self.task.domains - 1
        told = self.words.log_likelihood(self.language, rows.x, self.apart)
        return torch.where(source, shares(self.sharpness * told, source), 1.0)
