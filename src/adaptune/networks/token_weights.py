"""Which tokens of a text make a network say one class and not another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptune.networks.network import Network
from adaptune.runtime.inputs import in_eval, in_python


def token_weights(net: Network, ids: Tensor, chosen: Tensor, other: Tensor) -> Tensor | None:
    """Say how much each token of ids (N, L) speaks for a class (N,) and against another, (N, L).

    That is the gradient of the one logit less the other in the token's input embedding, times that
    embedding and summed over its axes: to first order, what the difference loses if the embedding
    shrinks to zero. Of ``ngrams``, whose logits are linear in embeddings, the weights add up to the
    difference without the head's bias. Source: Extraction of Salient Sentences from Labelled
    Documents (Denil et al., 2014). The difference of two classes is ours.

    Returns:
        float weights, 0 on padding; None of a network whose embeddings cannot be found.

    >>> from adaptune.networks.text import text_backbone
    >>> net = Network.from_architecture(text_backbone("ngrams"), ["a", "b"])
    >>> said = token_weights(net, torch.tensor([[5, 7, 0]]), torch.tensor([1]), torch.tensor([0]))
    >>> said.shape, float(said[0, 2])
    (torch.Size([1, 3]), 0.0)
    """
    find = getattr(net.body, "get_input_embeddings", None)
    layer = find() if callable(find) else None
    if not isinstance(layer, nn.Module):
        return None
    seen: list[Tensor] = []

    def apart(module: nn.Module, args: object, output: Tensor) -> Tensor:
        del module, args
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    hook = layer.register_forward_hook(apart)
    try:
        with in_eval(net), in_python(), torch.enable_grad():
            logits = net(ids)
            picked = [logits.gather(1, one[:, None]).sum() for one in (chosen, other)]
            (gradient,) = torch.autograd.grad(picked[0] - picked[1], seen[:1])
    finally:
        hook.remove()
    weights = (gradient * seen[0].detach()).sum(2)
    full = torch.zeros(ids.shape, dtype=weights.dtype, device=weights.device)
    full[:, : weights.shape[1]] = weights  # padding may have been cut
    return full.masked_fill(ids == 0, 0.0)
