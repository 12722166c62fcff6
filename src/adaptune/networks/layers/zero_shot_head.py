"""Classes of words as a linear head: what training may begin at, without the tower."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, Readout, need_raw, read_linear
from adaptune.networks.joint import Words

WIDEST = 65536


class Embedding(nn.Module):
    """A body's features (N, D, ...) in the space of texts, (N, E, ...), each of length 1.

    >>> made = Embedding(nn.Identity(), width=3, outputs=5)(torch.randn(2, 3)).detach()
    >>> made.shape, made.norm(dim=1).round(decimals=4)
    (torch.Size([2, 5]), tensor([1., 1.]))
    """

    def __init__(self, body: nn.Module, *, width: int, outputs: int) -> None:
        super().__init__()
        self.body, self.project = body, nn.Linear(width, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Give the embeddings of inputs."""
        return F.normalize(read_linear(self.body(x), self.project.weight, None), dim=1)


@torch.no_grad()
def zero_shot_head(body: nn.Module, head: Head, *, outputs: int) -> tuple[nn.Module, Readout]:
    """Put the map into a space of ``outputs`` axes behind the body, and classes of words as rows.

    The head is linear from then on, of embeddings: its rows are what classes are compared with,
    times the space's scale, and its biases are 0. So the network says what it said, by weights of
    its own, and no tower follows. Source: Robust Fine-Tuning of Zero-Shot Models (Wortsman et al.,
    2022).

    Raises:
        ValueError: If the space has no axes, or more than can be believed, or the head is neither
            of words nor linear.
    """
    if not 0 < outputs <= WIDEST:
        raise ValueError(f"a space has 1 to {WIDEST} axes: got {outputs}")
    if not isinstance(head, Words):
        old = need_raw(head, "a head of embeddings").weight
        wide, made = (
            Embedding(body, width=old.shape[1], outputs=outputs),
            Readout(outputs, len(old)),
        )
    else:
        old, joint, rows = head.joint.weight, head.joint, head.texts()
        if len(old) != outputs:
            raise ValueError(f"the space of these words has {len(old)} axes: got {outputs}")
        wide, made = (
            Embedding(body, width=old.shape[1], outputs=outputs),
            Readout(outputs, len(rows)),
        )
        wide.project.load_state_dict(joint.project.state_dict())
        made.weight.copy_(joint.warmth * rows)
        made.bias.zero_()
    wide.project.to(old)
    return wide.train(body.training), made.to(old)
