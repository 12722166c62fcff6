"""EAR adds a route for a domain that is new, and leaves alone what it knows."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from toy import CLASSES, TwoDomains, tinted, trained

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ear import EAR
from adaptune.networks.network import Network
from adaptune.ops.hypervectors import bundle, encode, own_strangeness, patterns, strangeness
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))
PLAN = Plan(epochs=6, seed=2, layout="contiguous")


def other(shift: float = 3.0) -> TwoDomains:
    """Give a labelled domain that looks unlike the first, its classes too."""
    data = TwoDomains()
    data.x = tinted(data.x, 1.5) + shift
    data.target, data.truth = data.x, data.y
    return data


def learnt(net: Network, data: TwoDomains, **options: object) -> EAR:
    method = EAR(net, TASK, **options)
    for _ in fit(method, data, PLAN):
        pass
    return method


@cache
def _first() -> EAR:
    return learnt(trained(), TwoDomains())


def first() -> Network:
    return deepcopy(_first().net)


def test_hypervectors_and_strangeness_are_their_formulas_in_float64():
    torch.manual_seed(0)
    x, projection = torch.randn(6, 4).double(), torch.randn(10, 4).double()
    y = torch.tensor([0, 0, 1, 1, 1, 2])
    codes = encode(x, projection)
    for row, one in enumerate(codes):
        for at, value in enumerate(one):
            assert value == (1 if float(x[row] @ projection[at]) >= 0 else -1)
    bundles = bundle(codes, y, 3)
    for row in range(6):
        cosines, lone = [], []
        for k in range(3):
            whole = sum(codes[i] for i in range(6) if y[i] == k)
            rest = whole - codes[row] if y[row] == k else whole
            cosines.append(float(codes[row] @ whole / (codes[row].norm() * whole.norm())))
            lone.append(
                float(codes[row] @ rest / (codes[row].norm() * rest.norm().clamp_min(1e-8)))
            )
        assert strangeness(codes, bundles)[row].item() == pytest.approx(1 - max(cosines))
        assert own_strangeness(codes, y, bundles)[row].item() == pytest.approx(1 - max(lone))


def test_the_score_of_an_adaptor_is_its_formula():
    active = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0]]) > 0
    agree = torch.tensor([[3, 2, 1], [2, 3, 0], [1, 0, 3]]) / 3
    wanted = torch.logdet(agree.double() + torch.eye(3))
    torch.testing.assert_close(patterns(active), wanted)


def test_a_new_domain_grows_a_route_and_what_was_familiar_is_answered_to_the_bit():
    net, data = first(), TwoDomains()
    with torch.no_grad():
        familiar = net.head.excess(net.body(data.x))[:, 0] <= 0
        before = net(data.x)
    method = learnt(net, other())
    assert len(net.head.routes) == 1
    with torch.no_grad():
        assert torch.equal(net(data.x)[familiar], before[familiar])
    assert familiar.float().mean() > 0.9
    assert other().accuracy(method) > 90
    assert net.head.routes[0].down.out_features in (16, 32, 64, 128)


def test_a_domain_that_is_known_grows_and_moves_nothing():
    net = first()
    before = deepcopy(net.state_dict())
    method = learnt(net, TwoDomains(seed=1))
    assert not method.groups()
    assert not len(net.head.routes)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]) or key.endswith("learning"), key


def test_new_domains_are_told_from_the_first_better_than_by_confidence():
    net, data, new = first(), TwoDomains(), other()

    def auroc(known: torch.Tensor, strange: torch.Tensor) -> float:
        return float((strange[:, None] > known).double().mean())

    with torch.no_grad():
        ours, theirs = (net.head.excess(net.body(one.x))[:, 0] for one in (data, new))
        sure = [-net(one.x).softmax(1).amax(1) for one in (data, new)]
    assert auroc(ours, theirs) > max(0.9, auroc(*sure))


def test_a_network_with_routes_is_saved_and_opened(tmp_path):
    net = learnt(first(), other()).net
    with torch.no_grad():
        wanted = net.eval()(other().x)
    net.save(tmp_path)
    from toy import body

    again = Network.load(tmp_path, module=body()).eval()
    with torch.no_grad():
        assert torch.equal(again(other().x), wanted)


def test_growing_resumes_bit_for_bit():
    whole = EAR(first(), TASK)
    states = [deepcopy(epoch.state) for epoch in fit(whole, other(), PLAN)]
    again = EAR(first(), TASK)
    for _ in fit(again, other(), PLAN, state=states[2]):
        pass
    for key, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_batch_norms_stay_and_shares_beyond_all_are_refused():
    method = _first()
    for key, value in trained().body.state_dict().items():
        assert torch.equal(method.net.body.state_dict()[key], value)
    for options in ({"keep": 1.0}, {"known": 2}, {"near": 0}, {"units": 0}):
        with pytest.raises(ValueError, match="are shares"):
            EAR(trained(), TASK, **options)
