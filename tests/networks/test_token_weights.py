"""What a token speaks for is the gradient in its embedding, times the embedding."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from lightning_fabric import Fabric
from texts import BAD, GOOD, encoder
from torch import nn

from adaptune.data.inputs import input_of
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.networks.token_weights import token_weights
from adaptune.runs.shading import word_shades

TEXTS = ["a good film", "the music was sad, and dull again", ""]
CHOSEN, OTHER = torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0])


@pytest.fixture(scope="module", params=["ngrams", "bert"])
def net(request, tmp_path_factory) -> Network:
    name = request.param
    if name == "bert":
        name = f"hf:{encoder(tmp_path_factory.mktemp('bert'), num_hidden_layers=1)}"
    return open_backbone(name, ["neg", "pos"], length=24).double()


def ids(net: Network) -> torch.Tensor:
    read = input_of(net.preprocess)
    return torch.stack([read.given(text) for text in TEXTS])


def test_weights_are_those_of_autograd_in_float64(net):
    """Each embedding shrinks by a share of its own, whose derivative at 1 is the weight."""
    x, found = ids(net), token_weights(net, ids(net), CHOSEN, OTHER)
    assert found.dtype == torch.float64
    layer = net.body.get_input_embeddings()

    def difference(shares: torch.Tensor) -> torch.Tensor:
        hook = layer.register_forward_hook(
            lambda module, args, out: out * shares[:, : out.shape[1], None]
        )
        logits = net.eval()(x)
        hook.remove()
        return (logits.gather(1, CHOSEN[:, None]) - logits.gather(1, OTHER[:, None])).sum()

    shares = torch.ones(x.shape, dtype=torch.float64)
    (wanted,) = torch.autograd.functional.jacobian(difference, (shares,))
    torch.testing.assert_close(found, wanted * (x != 0), rtol=1e-10, atol=1e-12)
    step, at = 1e-6, (1, 2)  # and as a slope
    moved = [shares.index_put([torch.tensor(i) for i in at], shares[at] + s) for s in (step, -step)]
    with torch.no_grad():
        slope = (difference(moved[0]) - difference(moved[1])) / (2 * step)
    assert found[at].item() == pytest.approx(slope.item(), rel=1e-5)


def test_of_hashed_words_they_add_up_to_the_difference_of_logits():
    net = open_backbone("ngrams", ["neg", "pos"], length=24).double().train()
    nn.init.zeros_(net.head.bias)
    x = ids(net)
    logits = net(x)
    wanted = logits.gather(1, CHOSEN[:, None]) - logits.gather(1, OTHER[:, None])
    found = token_weights(net, x, CHOSEN, OTHER)
    torch.testing.assert_close(found.sum(1), wanted.squeeze(1))
    assert (net.training, net.body.words.weight.grad) == (True, None)
    assert not net.body.words._forward_hooks


def test_the_words_of_a_class_speak_for_it():
    torch.manual_seed(0)
    net = open_backbone("ngrams", ["neg", "pos"])
    read = input_of(net.preprocess)
    x = torch.stack([read.given(" ".join(words)) for words in (BAD, GOOD)])
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    for _ in range(40):
        nn.functional.cross_entropy(net(x), torch.tensor([0, 1])).backward()
        optimizer.step()
        optimizer.zero_grad()
    text = f"{GOOD[0]} {BAD[0]}!"
    (shades,) = word_shades(net, [text], [1], [0], Fabric(accelerator="cpu", devices=1))
    assert shades[0] > 0.5
    assert shades[1] < -0.5


def test_spans_are_of_the_ids_and_those_of_a_tokenizer_touch_its_words(net):
    read = input_of(net.preprocess)
    text = "Good\u00e9 film, sad"
    spans, made = read.spans(text), read.given(text)
    assert len(spans) == int((made != 0).sum())
    own = [text[start:stop] for start, stop in spans]
    assert {"film", ",", "sad"} <= {*own}
    if net.preprocess.tokenizer:
        assert (own[0], own[-1]) == ("", "")
        assert all(a[1] <= b[0] for a, b in pairwise(spans[1:-1]))


def test_networks_that_tell_no_words_tell_nothing():
    fabric = Fabric(accelerator="cpu", devices=1)
    net = open_backbone("ngrams", ["neg", "pos"])
    net.body.get_input_embeddings = lambda: None
    assert token_weights(net, torch.ones(1, 2).long(), CHOSEN[:1], OTHER[:1]) is None
    assert word_shades(net, ["good"], [0], [1], fabric) == [[]]
    images = Network.from_module(nn.Linear(2, 2), head="", classes=["a", "b"])
    assert word_shades(images, ["good"], [0], [1], fabric) == [[]]
