"""m2-mix: mixtures on the sphere, the loss by its formula, and without it plain contrast."""

from __future__ import annotations

import pytest
import torch
from pairs import TASK, Pairs, cosines, distinct, pair_network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.clip import CLIP
from adaptune.methods.supervised.m2_mix import M2Mix
from adaptune.ops.mixing import geodesic


def unit(rows: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed)).double()
    return torch.nn.functional.normalize(drawn, dim=1)


def trained(method, epochs: int):
    for _ in fit(method, Pairs(count=48), Plan(epochs=epochs, layout="contiguous")):
        pass
    return method


def test_mixtures_have_length_1_and_end_at_both_sides():
    a, b = unit(5), unit(5, 1)
    for share in (0.0, 0.3, 1.0):
        assert torch.allclose(
            geodesic(a, b, torch.tensor(share)).norm(dim=1), torch.ones(5).double()
        )
    torch.testing.assert_close(geodesic(a, b, torch.tensor(1.0)), a)
    torch.testing.assert_close(geodesic(a, b, torch.tensor(0.0)), b)
    middle = geodesic(a, b, torch.tensor(0.5))
    torch.testing.assert_close((middle * a).sum(1), (middle * b).sum(1))


def test_where_both_sides_are_one_the_mixture_is_it_and_gradients_are_finite():
    a = unit(3).float().requires_grad_(True)
    mixed = geodesic(a, a.clone(), torch.tensor(0.4))
    torch.testing.assert_close(mixed, a, rtol=1e-4, atol=1e-4)
    mixed.sum().backward()
    assert torch.isfinite(a.grad).all()


def test_the_terms_are_those_of_the_formula_in_float64():
    method = M2Mix(pair_network().double(), TASK, weight=0.7).double().eval()
    batch, head = distinct(3), method.net.head
    torch.manual_seed(4)
    terms = method.objective(batch).terms
    torch.manual_seed(4)
    share = torch.distributions.Beta(1.0, 1.0).sample().double()
    images, texts = (
        head.embed(method.net.body(batch.labeled.x)),
        method.net.partners(batch.labeled.y),
    )
    angle = torch.acos((images * texts).sum(1, keepdim=True))
    mixed = torch.sin(share * angle) / torch.sin(angle) * images
    mixed = mixed + torch.sin((1 - share) * angle) / torch.sin(angle) * texts
    total = 0.0
    for i in range(3):
        own = head.warmth * images[i] @ texts[i]
        for side in (images, texts):
            others = [head.warmth * side[i] @ mixed[j] for j in range(3) if j != i]
            total += torch.stack([own, *others]).logsumexp(0) - own
    assert terms["mixed"].item() == pytest.approx(0.7 * total.item() / 3, rel=1e-9)
    plain = CLIP(method.net, TASK).eval().objective(batch).terms["task"]
    assert terms["task"].item() == pytest.approx(plain.item(), rel=1e-12)


def test_mixed_negatives_are_nearer_than_partners():
    method, batch = M2Mix(pair_network().double(), TASK).double().eval(), distinct(6)
    images = method.net.head.embed(method.net.body(batch.labeled.x))
    texts = method.net.partners(batch.labeled.y)
    mixed = geodesic(images, texts, torch.tensor(0.5))
    others = ~torch.eye(6, dtype=torch.bool)
    assert (images @ mixed.T)[others].mean() > cosines(method.net, batch)[others].mean()


def test_without_weight_it_is_clip_and_with_it_texts_are_found():
    ours = trained(M2Mix(pair_network(), TASK, weight=0.0), 1)
    theirs = trained(CLIP(pair_network(), TASK), 1)
    torch.testing.assert_close(ours.net.state_dict(), theirs.net.state_dict())
    assert Pairs().accuracy(trained(M2Mix(pair_network(), TASK, weight=0.3), 24)) > 90


def test_what_cannot_be_is_refused():
    for options in ({"weight": -1.0}, {"beta": 0.0}):
        with pytest.raises(ValueError, match="weight is from 0 up, beta above 0"):
            M2Mix(pair_network(), TASK, **options)
