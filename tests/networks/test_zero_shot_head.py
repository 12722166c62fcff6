"""Classes of words as a linear head: the same function, saved, opened and trained."""

import pytest
import torch
from named_classes import pair_network
from toy import domains, network

from adaptune.data.class_words import class_texts, with_words
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.networks.pairs import joint_head
from adaptune.networks.text import text_backbone
from adaptune.tasks.classification import Classification

NAMES = ("red", "green", "blue")


def worded(seed: int = 0) -> Network:
    net = pair_network(seed)
    return with_words(net, NAMES, class_texts(NAMES, ["a photo of a {}", "my {}"]))


def toy(seed: int = 0) -> Network:
    net = network(seed)
    tower = text_backbone("ngrams")
    net.head = joint_head(net.width, net.preprocess, 6, tower=tower)
    return with_words(net, NAMES, class_texts(NAMES, ["a photo of a {}"]))


def test_a_linear_head_says_what_the_words_said_and_is_saved(tmp_path):
    net, x = worded().eval(), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        before = net(x)
        net.operate("zero-shot-head", outputs=6)
        assert isinstance(net.head, Readout)
        assert net.head.weight.shape == (3, 6)
        assert not net.head.bias.any()
        assert torch.allclose(net(x), before, atol=1e-5)
        assert torch.allclose(net.body(x).norm(dim=1), torch.ones(4))
        net.save(tmp_path)
        again = Network.load(tmp_path).eval()
        assert torch.equal(again(x), net(x))
    assert not any("tower" in name for name in again.state_dict())


def test_what_is_no_space_is_refused_in_words():
    net = worded()
    for outputs in (0, 10**6, 7):
        with pytest.raises(ValueError, match="axes"):
            net.operate("zero-shot-head", outputs=outputs)
    net.head = pair_network().head
    with pytest.raises(ValueError, match="Joint"):
        net.operate("zero-shot-head", outputs=6)


@torch.no_grad()
def test_daft_starts_at_the_zero_shot_classifier():
    net, data = toy().eval(), domains()
    x = torch.cat([rows.x for rows in data.scan("train")])
    before = net(x)
    net.operate("zero-shot-head", outputs=6)
    method = DAFT(net, Classification(3), head_start="kept")
    method.prepare(data)
    assert torch.allclose(method.eval()(x), before, rtol=1e-3, atol=1e-3)


def test_an_interpolation_of_nothing_is_the_zero_shot_classifier():
    net, data = toy().eval(), domains()
    x = torch.cat([rows.x for rows in data.scan("train")])
    with torch.no_grad():
        before = net(x)
    net.operate("zero-shot-head", outputs=6)
    method = FineTune(net, Classification(3), lr=0.1)
    found = []
    for epoch in fit(method, data, Plan(epochs=1, interpolate=0.0)):
        if epoch.whole:
            with torch.no_grad():
                found.append(method.eval()(x))
    assert torch.allclose(found[-1], before, atol=1e-4)


def test_after_training_the_tower_what_is_said_is_of_renewed_anchors(tmp_path):
    net, data = toy(), domains()
    was = net.head.anchors.clone()
    method = FineTune(net, Classification(3), lr=0.1)
    for _ in fit(method, data, Plan(epochs=2)):
        method.eval()
    x = torch.cat([rows.x for rows in data.scan("test")])
    with torch.no_grad():
        said = method.eval()(x)
        assert not torch.allclose(net.head.anchors, was, atol=1e-3)
        anchors = with_words(net, NAMES, net.head.words).head.anchors
        expected = net.joint(net.body(x)) @ anchors.T
    assert torch.allclose(said, expected, atol=1e-5)


def test_a_network_saved_in_the_middle_of_training_has_anchors_of_its_tower(tmp_path):
    net, x = worded().train(), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        net.joint.tower.words.weight.mul_(torch.randn(128))
    net.save(tmp_path)
    again = Network.load(tmp_path).eval()
    calls = []
    again.joint.tower.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        said = again(x)
        assert not calls  # what was saved is taken
        again.head.renew()
        assert torch.allclose(said, again(x), atol=1e-5)
        assert torch.allclose(said, net.eval()(x), atol=1e-5)
    assert again.head.words == net.head.words


@pytest.mark.parametrize("average", ["embeddings", "similarities"])
def test_what_is_averaged_is_saved(average, tmp_path):
    net, x = pair_network(), torch.randn(2, 3, 32, 32)
    net = with_words(net, NAMES, class_texts(NAMES, ["a {}", "my {}"]), average=average)
    net.save(tmp_path)
    again = Network.load(tmp_path)
    assert again.head.average == average
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net.eval()(x))
