"""Two processes train as one does, at the same number of images in a batch."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from places import dense_network, drawn
from texts import rows
from torch import nn
from torch.utils.data import TensorDataset
from toy import CLASSES, domains, network
from two import on_two

from adaptune.batchnorm.synchronized import batch_norm
from adaptune.data import Loading, from_datasets
from adaptune.engine.evaluate import evaluate, sample_outputs
from adaptune.engine.loop import fit
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.sam import SAM
from adaptune.methods.supervised.tram import TRAM
from adaptune.networks.inputs import TextInput
from adaptune.networks.network import Network
from adaptune.networks.text import _encoder
from adaptune.runtime.processes import rank_and_world
from adaptune.tasks.classification import Classification
from adaptune.tasks.segmentation import Segmentation

TASK = Classification(len(CLASSES))
METHODS = {"ft": FineTune, "daft": DAFT, "sam": SAM, "tram": TRAM}
DENSE = {"ft": FineTune, "daft": DAFT}
UNEVEN = 15
"""Images in a batch, which two processes cannot share evenly."""


def trained(kind, epochs: int = 2, size: int = UNEVEN, count: int = 70, **plan) -> dict:
    """Train in float64; give what steps, epochs and evaluation came to."""
    method = kind(network().double(), TASK).double()
    data = domains(count, batch_size=size)
    for one in (*data.sets.values(), *data.ood.values(), data.augmented):
        one.data = [(x.double(), y) for x, y in one.data]
    chosen = Plan(**{"epochs": epochs, "layout": "channels_last", **plan})
    terms = [epoch.terms for epoch in fit(method, data, chosen)]
    outputs = sample_outputs(method, data.scan("test"))
    return {"state": method.state_dict(), "terms": terms, "outputs": vars(outputs)}


def trained_on_places(kind) -> dict:
    """Train on masks in float64, one of which asks nothing; give what it came to."""
    x, y = drawn(33, seed=4)
    y[3] = 255
    masks = TensorDataset(x.double(), y)
    data = from_datasets(
        *[masks] * 3, classes=CLASSES, labels="mask", loading=Loading(batch_size=UNEVEN)
    )
    task = Segmentation(len(CLASSES))
    method = kind(dense_network().double(), task).double()
    terms = [epoch.terms for epoch in fit(method, data, Plan(epochs=2, layout="channels_last"))]
    found = evaluate(method, data.scan("test"), task)
    outputs = {"mIoU": torch.tensor(found.scores.main.value), **vars(found.sample)}
    return {"state": method.state_dict(), "terms": terms, "outputs": outputs}


class Encoder(nn.Module):
    """Attention over tokens, called and answering as encoders of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, input_ids, attention_mask):
        x = self.layer(self.words(input_ids), src_key_padding_mask=attention_mask == 0)
        return SimpleNamespace(last_hidden_state=x)


def network_of_texts() -> Network:
    torch.manual_seed(0)
    look = TextInput(12, "", 50)
    return Network.from_architecture(_encoder(Encoder(), "own", {}, "mean", look), ("neg", "pos"))


def trained_on_texts(kind) -> dict:
    """Train on texts, in float64, which are of other lengths in each process."""
    net = network_of_texts().double()
    made = [(text[: 8 + 3 * at % 50], label) for at, (text, label) in enumerate(rows(33, "movie"))]
    loading = Loading(batch_size=UNEVEN)
    data = from_datasets(*[made] * 3, classes=net.classes, loading=loading)
    method, data = kind(net, Classification(2)).double(), data.with_input(net.preprocess)
    terms = [epoch.terms for epoch in fit(method, data, Plan(epochs=2, layout="contiguous"))]
    outputs = sample_outputs(method, data.scan("test"))
    return {"state": method.state_dict(), "terms": terms, "outputs": vars(outputs)}


def of_batch_norm() -> dict:
    """Normalise uneven shares of the same rows, forward and backward."""
    rank, world = rank_and_world()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 2, 2, generator=random, dtype=torch.float64)
    pull = torch.randn(x.shape, generator=random, dtype=torch.float64)
    own = x[rank::world].clone().requires_grad_()
    weight = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
    mean, variance = torch.zeros(3).double(), torch.ones(3).double()
    function = batch_norm if world > 1 else F.batch_norm
    out = function(own, mean, variance, weight, bias, True, 0.3, 1e-5)
    (out * pull[rank::world]).sum().backward()
    parts = {"out": out.detach(), "gradient": own.grad}
    shared = {"weight": weight.grad, "bias": bias.grad, "mean": mean, "variance": variance}
    return {"parts": parts, "shared": shared}


def of_faults() -> str:
    """Train on images of which one, in the part of one process, is not finite."""
    method = FineTune(network(), TASK)
    data = domains(4, batch_size=4)
    x, y = data.augmented.data.tensors
    first = next(iter(data.batches(method.needs, 0))).labeled.index[0]
    if rank_and_world()[0] == 1 or rank_and_world()[1] == 1:
        x[first] = float("nan")
    with pytest.raises(NonFiniteError) as error:
        list(fit(method, data, Plan(epochs=1, sync_batchnorm=False)))
    return str(error.value)


def everything() -> dict:
    found = {name: trained(kind) for name, kind in METHODS.items() if not kind.needs.tokens}
    found |= {f"{name} on masks": trained_on_places(kind) for name, kind in DENSE.items()}
    found |= {f"{name} on texts": trained_on_texts(kind) for name, kind in DENSE.items()}
    found["in parts"] = trained(partial(FineTune, batchnorm="eval"), accumulate=3)
    adamw = {"optimizer": "adamw", "weight_decay": 0.1}
    found["adamw"] = trained(partial(FineTune, lr=0.003), **adamw)
    found["averaged"] = trained(FineTune, average="ema", average_decay=0.8, interpolate=0.5)
    found["first"] = trained(FineTune, epochs=1, count=15, momentum=0.0)
    found["apart"] = trained(FineTune, sync_batchnorm=False)
    return found | {"batch norm": of_batch_norm(), "fault": of_faults()}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes came to."""
    return on_two(everything, tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def alone() -> dict:
    return everything()


def close(found, wanted, tolerance: float) -> None:
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def test_the_first_step_moves_by_the_gradient_of_one_process(both, alone):
    start = FineTune(network().double(), TASK).state_dict()
    for one in both:
        for key, value in start.items():
            moved = one["first"]["state"][key] - value
            close(moved, alone["first"]["state"][key] - value, 1e-9)


@pytest.mark.parametrize(
    "name",
    [
        *METHODS,
        *(f"{name} on {what}" for name in DENSE for what in ("masks", "texts")),
        *("in parts", "adamw", "averaged"),
    ],
)
def test_a_whole_run_is_that_of_one_process_and_the_same_bits_on_both(both, alone, name):
    for one in both:
        close(one[name]["state"], alone[name]["state"], 1e-6)
        close(one[name]["outputs"], alone[name]["outputs"], 1e-6)
    a, b = (one[name]["state"] for one in both)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert both[0][name]["terms"] == both[1][name]["terms"]


def test_batch_norms_apart_train_another_network_whose_statistics_agree(both, alone):
    a, b = (one["apart"]["state"] for one in both)
    assert all(torch.equal(a[key], b[key]) for key in a)
    wanted = alone["apart"]["state"]
    assert any(not torch.allclose(a[key], wanted[key]) for key in a)


def test_synchronised_batch_norm_is_batch_norm_of_all_rows_in_float64(both, alone):
    wanted = alone["batch norm"]
    for rank, one in enumerate(both):
        for key, part in one["batch norm"]["parts"].items():
            close(part, wanted["parts"][key][rank::2], 1e-12)
        for key in ("mean", "variance"):
            close(one["batch norm"]["shared"][key], wanted["shared"][key], 1e-12)
    for key in ("weight", "bias"):
        total = sum(one["batch norm"]["shared"][key] for one in both)
        close(total, wanted["shared"][key], 1e-12)


def test_what_is_not_finite_in_one_process_stops_both(both, alone):
    said = [one["fault"] for one in both]
    assert "the term 'task' is nan in epoch 1, step 1" in alone["fault"]
    assert sorted("in another process" in words for words in said) == [False, True]


def test_outputs_come_in_the_order_of_the_set_on_every_process(both, alone):
    for one in both:
        assert one["ft"]["outputs"]["index"].tolist() == list(range(30))
    assert deepcopy(alone["ft"]["outputs"]["index"]).tolist() == list(range(30))
