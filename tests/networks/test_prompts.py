"""Prompts: where they stand, that gradients reach them, and that they are saved."""

from __future__ import annotations

import pytest
import torch
from texts import encoder
from torch import nn
from words import words_network

from adaptune.networks.inputs import TextInput
from adaptune.networks.joint import Words
from adaptune.networks.network import Network
from adaptune.networks.pairs import joint_head
from adaptune.networks.prompt_start import start_prompts
from adaptune.networks.prompts import embedding_of, placed, shared_tokens, with_room
from adaptune.networks.text import text_architecture, text_folder

KINDS = [("prompts", {"per_class": False}), ("prompts", {"per_class": True})]
KINDS += [("image-prompts", {"hidden": 3})]
HASHED = {"model_type": "ngrams", "settings": {"vocabulary": 20, "width": 6}}


def hashed() -> Network[Words]:
    """Give a network that can be saved: texts beside texts, hashed words as their tower."""
    torch.manual_seed(0)
    look = TextInput(12, "", 20)
    net = Network.from_architecture(text_architecture(HASHED, look), ["a", "b", "c"])
    joint = joint_head(net.width, look, 5, tower=text_architecture(HASHED, look))
    ids = torch.tensor([[4, 5, 1], [4, 6, 2], [4, 5, 3], [4, 6, 3]])
    net.head = Words(joint, ids, torch.tensor([0, 1, 2, 2]), [["x"], ["y"], ["z", "w"]])
    return net


@pytest.mark.parametrize(("kind", "arguments"), KINDS)
def test_what_is_saved_predicts_as_the_network_did_and_alone(tmp_path, kind, arguments):
    net, x = hashed(), torch.tensor([[3, 4, 9, 0], [1, 2, 0, 0]])
    prompts = start_prompts(net, kind, 3, **arguments)
    with torch.no_grad():
        for one in prompts.parameters():
            one.normal_()
    said = net(x)
    net.save(tmp_path)
    again = Network.load(tmp_path)
    assert torch.allclose(again(x), said, atol=1e-6)
    assert torch.equal(again.head.ids, net.head.ids)


@pytest.mark.parametrize(("kind", "arguments"), KINDS)
def test_gradients_reach_prompts_and_nothing_else(kind, arguments):
    net = hashed()
    prompts = start_prompts(net, kind, 3, **arguments)
    net(torch.tensor([[3, 4, 9, 0], [1, 2, 0, 0]]))[:, 0].sum().backward()
    assert prompts.vectors.grad.norm() > 0
    moved = {name for name, one in net.named_parameters() if one.grad is not None}
    assert all(name.startswith("head.prompts.") for name in moved)


def test_each_image_is_compared_with_texts_of_its_own_prompts():
    net = words_network().double()
    prompts = start_prompts(net, "image-prompts", 2, hidden=3).double()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    together = net(x)
    alone = torch.cat([net(one.unsqueeze(0)) for one in x])
    assert torch.allclose(together, alone)
    head, features = net.head, net.body(x[:1])
    own = prompts(head.owner, head.joint.embed(features))[0]
    anchors = head.centred(head.read(own))
    assert torch.allclose(together[:1], head.joint(features) @ anchors.T)
    maps = features[:, :, None, None].expand(-1, -1, 2, 3)
    assert torch.allclose(head(maps), together[:1, :, None, None].expand(-1, -1, 2, 3))


def test_shared_words_give_their_places_and_the_rest_gets_longer():
    ids = torch.tensor([[4, 5, 1, 0], [4, 5, 2, 3]])
    assert shared_tokens(ids, 0) == 2
    assert shared_tokens(ids[:1], 0) == 0
    assert with_room(ids, 0, 1, 5).tolist() == [[4, 4, 5, 1, 0], [4, 4, 5, 2, 3]]
    with pytest.raises(ValueError, match="5 tokens, and their tower reads 4"):
        with_room(ids, 0, 1, 4)
    net = hashed()
    kept = net.head.ids.clone()
    start_prompts(net, "prompts", 1, per_class=False)
    assert torch.equal(net.head.ids, kept)


def test_an_encoder_of_transformers_reads_vectors_behind_its_first_token(tmp_path):
    built = text_folder(encoder(tmp_path), length=16)
    tower, look = built.module.eval(), built.preprocess
    assert embedding_of(tower) is tower.get_input_embeddings()
    joint = joint_head(6, look, tower=built, outputs=4)
    ids = torch.tensor([[2, 20, 7, 3, 0], [2, 21, 8, 9, 3]])
    net = Network.from_module(nn.Sequential(nn.Linear(6, 2)), head="0", classes=["a", "b"])
    net.head = Words(joint, ids, torch.arange(2), [["a"], ["b"]])
    net.eval()
    start_prompts(net, "prompts", 2, per_class=False)
    prompts, head = net.head.prompts, net.head
    assert (prompts.start, head.ids.shape) == (1, (2, 7))
    with torch.no_grad():
        table = tower.get_input_embeddings().weight
        prompts.vectors[0] = table[[30, 31]]
        told = joint.partners(
            torch.cat([ids[:, :1], torch.tensor([[30, 31]] * 2), ids[:, 1:]], 1), None
        )
    assert torch.allclose(head.texts(), told, atol=1e-6)
    head.texts()[0].sum().backward()
    assert prompts.vectors.grad.norm() > 0


def test_outside_of_their_texts_a_tower_reads_as_ever_and_one_without_vectors_is_refused():
    tower = nn.Sequential(nn.Embedding(9, 2))
    ids = torch.tensor([[1, 2]])
    said = tower(ids)
    with placed(tower, torch.zeros(1, 1, 2), 0):
        assert not torch.equal(tower(ids), said)
    assert torch.equal(tower(ids), said)
    with pytest.raises(ValueError, match="makes no vectors of tokens"):
        embedding_of(nn.Linear(2, 2))


def test_surgeries_refuse_what_is_not_there():
    net = hashed()
    for arguments in ({"count": 0, "start": 0}, {"count": 9, "start": 0}, {"count": 1, "start": 3}):
        with pytest.raises(ValueError, match="have no"):
            net.operate("prompts", per_class=False, **arguments)
    with pytest.raises(ValueError, match="a number of units"):
        net.operate("image-prompts", count=1, start=0, hidden=0)
    net.operate("prompts", count=1, start=0, per_class=False)
    with pytest.raises(ValueError, match="this network has prompts"):
        net.operate("prompts", count=1, start=0, per_class=False)
    plain = Network.from_module(nn.Sequential(nn.Linear(6, 2)), head="0", classes=["a", "b"])
    with pytest.raises(ValueError, match="prompts stand in texts of classes"):
        plain.operate("prompts", count=1, start=0, per_class=False)
