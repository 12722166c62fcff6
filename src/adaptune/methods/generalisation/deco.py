"""Content apart from domain noise, which images of other domains lend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.networks.stages import stage_maps
from adaptune.ops.class_features import RarePrototypes
from adaptune.ops.inner import altered, tapped
from adaptune.ops.mixing import drawn_partners
from adaptune.ops.style import content_apart, parted
from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import gather, join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class DECO(Method):
    """Learn from the content of each image with the noise of another domain, beside the image.

    Maps at the end of stage ``stage`` are parted into what instance normalisation leaves of them,
    the content, and the rest, the domain's noise. An image is seen twice: as it is, and with its
    content and the noise of an image of another domain. Before they are added, the content is
    mixed with the prototype of its class and the noise with that of its domain: ``keep`` times a
    weight is the image's share. Weights are inverse frequencies, 1 for the rarest class or domain,
    so that what is rare stays itself. Both are to be told right. At the end of the last stage the
    contents of both are to be alike at every place: ``weight`` times the mean of what one minus
    their cosine is above ``slack``. Prototypes are maps, which begin as means over the training
    images and follow each batch. The network that is saved is the plain one. Source: Generalizing
    to Unseen Domains in Diabetic Retinopathy with Disentangled Representations (Xia et al., 2024).

    Known of the paper are its abstract and its figure, and that instance normalisation parts. Ours:
    where maps are parted and compared; that noise is a difference, in which some content is left
    where a deviation is not 1; the form of weights and of the comparison, with ``slack`` leaving
    classes their variety; every number; that images as they are count too.

    Batch norms in train mode normalise images and mixed images by their own batch, and running
    statistics follow both: those before the mix see the images twice.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        keep: The share of an image's own content and noise, of the rarest class or domain.
        weight: How much it counts that contents are alike.
        stage: Behind which stage maps are parted, from 1.
        slack: How far contents may be apart, one minus the cosine.
        memory: What share of the prototypes stays in a step.
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "generalisation"
    task: Classification

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        keep: Annotated[float, Between(0.1, 1.0)] = 0.8,
        weight: Annotated[float, Between(0.01, 10.0)] = 1.0,
        stage: int = 1,
        slack: float = 0.1,
        memory: float = 0.9,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not (0 <= keep <= 1 and 0 <= memory <= 1 and min(weight, slack) >= 0):
            raise ValueError("keep and memory are shares, 0 to 1, and weight and slack 0 or more")
        self.lr, self.batchnorm, self.keep, self.weight = lr, batchnorm, keep, weight
        self.stage, self.slack, self.memory = stage, slack, memory
        if not 1 <= stage < len(places := stage_maps(net.body)):
            raise ValueError(f"deco needs a stage before the last of {len(places)}: got {stage}")
        (self.early, self.width), self.late = places[stage - 1], places[-1]
        self.contents, self.noises = RarePrototypes(task.classes), RarePrototypes(task.domains)

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; find prototypes, and what is rare."""
        notes = super().prepare(data)
        with torch.no_grad(), in_eval(self.net):
            self.contents.begin(self.scanned(data, 0))
            self.noises.begin(self.scanned(data, 1))
        return notes

    def scanned(self, data: Domains, at: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Give all contents with their classes, or, at 1, noises with their domains."""
        for rows in data.scan("train"):
            with tapped(self.net.body, [self.early]) as inner:
                self.net.body(rows.x)
            part = parted(inner[self.early], self.width)[at]
            yield part.flatten(1), (rows.domain if at else rows.y)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Learn once, and let the prototypes follow."""
        seen: list[Tensor] = []

        def look() -> Objective:
            done, *seen[:] = self.look(batch)
            return done

        done, rows = descend(look), batch.labeled
        self.contents.follow(seen[0], rows.y, self.memory)
        self.noises.follow(seen[1], rows.domain, self.memory)
        return done

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of images and of their content in other noise, and for one content."""
        return self.look(batch)[0]

    def look(self, batch: Batch) -> tuple[Objective, Tensor, Tensor]:
        """Give the objective, and contents and noises of the images as rows."""
        rows, body, (late, width) = batch.labeled, self.net.body, self.late
        with tapped(body, [self.early, late]) as inner:
            features = body(rows.x)
        content, noise = parted(inner[self.early], self.width)
        other = drawn_partners(rows.index, other=rows.domain)
        lent = self.noises.mixed(join(noise)[other], gather(rows.domain)[other], self.keep)
        new = self.contents.mixed(content, rows.y, self.keep) + lent
        with altered(body, {self.early: lambda _: new}), tapped(body, [late]) as out:
            again = body(rows.x)
        logits = self.net.head(features)
        terms = {
            "task": self.task.loss(logits, rows.y),
            "mixed": self.task.loss(self.net.head(again), rows.y),
            "content": self.weight * content_apart(inner[late], out[late], width, self.slack),
        }
        return Objective(terms, logits, features), content.flatten(1), noise.flatten(1)
