"""What a network says of one image: its answer, how sure it is, what it knows that is like it."""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor

from adaptune.data.file_rows import FileRows
from adaptune.data.inputs import input_of
from adaptune.data.inputs.image import read_image
from adaptune.data.names import printable
from adaptune.engine.evaluate import run_through
from adaptune.networks.network import Network
from adaptune.ops.places import best_classes
from adaptune.report.masks import palette
from adaptune.report.page import thumbnail
from adaptune.runs.masks import MaskMaker
from adaptune.serving.neighbours import Neighbours, Pooled
from adaptune.tasks.task import Task
from adaptune.types import Labeled, Outputs

TOP = 5
"""Classes that are named, the likeliest first."""

NEAR = 6
"""Training images that are shown."""

SHARP = 512
"""The longest side of an image that is sent to the bit, in pixels; larger ones become JPEG."""

SIDE, SMALL = 1024, 160
"""The longest side of the image and of training images on the page, in pixels."""


@dataclass(frozen=True)
class Known:
    """Training images, where they lie, and whether their labels may be told (``labelled``)."""

    rows: FileRows
    neighbours: Neighbours
    labelled: bool

    def about(self) -> dict[str, Any]:
        """Say what an image's distance is held against."""
        near = self.neighbours
        return {"held": len(near.held), "limit": near.limit, "rate": near.rate}


@dataclass
class Judge:
    """Says what a network makes of an image file, one at a time.

    ``known`` is what it was trained on, if that is there; ``masks`` paints, of a network of places.
    """

    net: Network
    task: Task
    fabric: Fabric
    known: Known | None = None
    masks: MaskMaker | None = None
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, file: Path) -> dict[str, Any]:
        """Judge an image.

        Raises:
            OSError: If it cannot be read as an image; the message says why.
        """
        with self._busy:
            image = read_image(file)
            seen = _Seen()
            run_through(self.net, [self._row(image)], seen, fabric=self.fabric)
            told = self._painted(image) if self.masks else self._answered(seen.logits)
            return {"picture": _picture(image), **told, **self._placed(seen.feature)}

    def _row(self, image: Tensor) -> Labeled:
        none = torch.zeros(1, dtype=torch.int64)
        x = input_of(self.net.preprocess).given(image)
        return Labeled(x=x[None], domain=none, index=none, y=none)

    def _answered(self, logits: Tensor) -> dict[str, Any]:
        """Say which class it is, or none where the network has a threshold for that."""
        shares, order = logits[0].softmax(0).sort(descending=True)
        answer = float(self.task.answer(self.net.with_unknown(logits))[0])
        return {
            "answer": self.task.words(answer, self.net.classes),
            "confidence": float(shares[0]),
            "top": [
                {"name": self.net.classes[row], "share": share}
                for share, row in zip(shares[:TOP].tolist(), order[:TOP].tolist(), strict=True)
            ],
            "rejects": self.net.threshold < 1,
            "unknown": answer == len(self.net.classes),
        }

    def _painted(self, image: Tensor) -> dict[str, Any]:
        """Say which class each place is of: a mask in colours, and what covers how much."""
        assert self.masks is not None
        mask, sure = torch.empty(image.shape[1:], dtype=torch.uint8), 0.0
        for rows, columns, logits in self.masks.outputs(image):
            best, mask[rows, columns] = (one.cpu() for one in best_classes(logits))
            total = logits.logsumexp(0).cpu()
            sure += float((best - total).exp().sum())
        counts = torch.bincount(mask.flatten().long(), minlength=len(self.net.classes))
        shares, order = (counts / mask.numel()).sort(descending=True)
        colors = palette(256)
        drawn = Image.fromarray(mask.numpy(), "L")
        drawn.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
        drawn.putpalette(colors)
        return {
            "mask": _url(drawn, "PNG"),
            "confidence": sure / mask.numel(),
            "top": [
                {
                    "name": self.net.classes[row],
                    "share": share,
                    "color": colors[3 * row : 3 * row + 3],
                }
                for share, row in zip(shares.tolist(), order.tolist(), strict=True)
                if share
            ],
        }

    def _placed(self, feature: Tensor) -> dict[str, Any]:
        """Say which training images are nearest, and whether it is farther than others are."""
        if self.known is None:
            return {"nearest": [], "away": None, "farther": None, "outside": None}
        near = self.known.neighbours
        away, limit = float(near.away(feature[None])[0]), near.limit
        farther = float((near.held >= away).float().mean()) if limit is not None else None
        return {
            "nearest": [self._near(self.known, *one) for one in near.nearest(feature, NEAR)],
            "away": away,
            "farther": farther,
            "outside": away > limit if limit is not None else None,
        }

    def _near(self, known: Known, row: int, away: float) -> dict[str, Any]:
        one = known.rows.examples[row]
        named = known.labelled and not self.task.places
        return {
            "picture": thumbnail(one.path, one.part, side=SMALL, kind="JPEG"),
            "name": printable(one.path),
            "label": self.net.classes[known.rows.labels[row]] if named else "",
            "distance": away,
        }


class _Seen(Pooled):
    """What a network gave for one image."""

    def add(self, outputs: Outputs) -> None:
        super().add(outputs)
        self.logits, self.feature = outputs.logits.cpu(), self.features[0][0]


def _picture(image: Tensor) -> str:
    drawn = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    drawn.thumbnail((SIDE, SIDE))
    return _url(drawn, "PNG" if max(drawn.size) <= SHARP else "JPEG")


def _url(image: Image.Image, kind: str) -> str:
    raw = io.BytesIO()
    image.save(raw, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(raw.getvalue()).decode()}"
