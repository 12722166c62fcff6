"""Mixed statistics: eval mode at one end, train mode at the other, the formula in between."""

from copy import deepcopy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from adaptune.batchnorm.layers import (
    batchnorms,
    mixed_batch_norm,
    mixed_statistics,
    train_batchnorm_only,
)

SHARES = [0.0, 0.25, 0.5, 0.9, 1.0]


def seen(norm: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Give a layer that has statistics, weights and biases of its own."""
    torch.manual_seed(1)
    with torch.no_grad():
        for _ in range(5):
            norm.train()(2 * torch.randn(32, *shape) + 1)
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    return norm.eval()


LAYERS = {
    "1d": (lambda: nn.BatchNorm1d(5), (5,)),
    "1d sequence": (lambda: nn.BatchNorm1d(5), (5, 7)),
    "2d": (lambda: nn.BatchNorm2d(5), (5, 4, 4)),
    "3d": (lambda: nn.BatchNorm3d(5), (5, 2, 3, 2)),
    "synchronised": (lambda: nn.SyncBatchNorm(5), (5, 4, 4)),
    "timm": (lambda: BatchNormAct2d(5, inplace=False), (5, 4, 4)),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    make, shape = LAYERS[request.param]
    if request.param == "synchronised":  # which trains on GPUs alone
        norm = make()
        norm.load_state_dict(seen(nn.BatchNorm2d(5), shape).state_dict())
        return norm.eval(), shape
    return seen(make(), shape), shape


def transcribed(norm: nn.Module, x: torch.Tensor, share: float) -> torch.Tensor:
    x = x.double()
    around = [dim for dim in range(x.dim()) if dim != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean = share * norm.running_mean.double() + (1 - share) * x.mean(around)
    own = (x - x.mean(around, keepdim=True)).pow(2).mean(around)
    variance = share * norm.running_var.double() + (1 - share) * own
    unit = (x - mean.view(shape)) / (variance + norm.eps).sqrt().view(shape)
    out = unit * norm.weight.double().view(shape) + norm.bias.double().view(shape)
    return getattr(norm, "act", nn.Identity())(out)


@pytest.mark.parametrize("share", SHARES)
def test_the_mix_is_the_formula_in_float64(layer, share):
    norm, shape = layer
    x = torch.randn(6, *shape) - 2
    with mixed_statistics(share):
        learnt = norm(x)
        with torch.no_grad():
            found = norm(x)
    wanted = transcribed(norm, x, share)
    assert torch.allclose(found.double(), wanted, atol=1e-5)
    assert torch.allclose(learnt.double(), wanted, atol=1e-5)


def test_all_of_the_running_statistics_is_eval_mode_to_the_bit(layer):
    norm, shape = layer
    x = torch.randn(6, *shape)
    with mixed_statistics(1.0):
        found = norm(x)
    assert torch.equal(found, norm(x))


def test_none_of_them_is_train_mode_to_the_bit_and_moves_no_statistics(layer):
    norm, shape = layer
    if isinstance(norm, nn.SyncBatchNorm):
        pytest.skip("it has no train mode on this device")
    x = torch.randn(6, *shape)
    before = deepcopy(norm.state_dict())
    with mixed_statistics(0.0):
        found = norm(x)
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())
    assert torch.equal(found, norm.train()(x))


def test_layers_are_left_as_they_were_and_copies_mix_too(layer):
    norm, shape = layer
    x = torch.randn(6, *shape)
    copy = deepcopy(norm)
    with mixed_statistics(0.5):
        assert torch.equal(copy(x), norm(x))
    assert norm.state_dict().keys() == copy.state_dict().keys()
    assert torch.equal(norm(x), copy(x))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_one_value_a_channel_is_normalised_by_the_running_statistics(share):
    norm = seen(nn.BatchNorm1d(5), (5,))
    x = torch.randn(1, 5)
    with mixed_statistics(share):
        assert torch.equal(norm(x), norm.eval()(x))


def test_one_image_is_mixed_over_its_pixels():
    norm = seen(nn.BatchNorm2d(5), (5, 4, 4))
    x = torch.randn(1, 5, 4, 4)
    with mixed_statistics(0.5):
        assert torch.allclose(norm(x).double(), transcribed(norm, x, 0.5), atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_gradients_flow_through_the_statistics_of_the_batch(share):
    norm = seen(nn.BatchNorm1d(3), (3,)).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def mixed(x, weight, bias):
        own = (norm.running_mean, norm.running_var)
        return mixed_batch_norm(x, *own, weight, bias, eps=norm.eps, share=share)

    assert torch.autograd.gradcheck(mixed, (x, norm.weight, norm.bias))


def test_the_layout_of_images_stays():
    norm = seen(nn.BatchNorm2d(5), (5, 4, 4))
    x = torch.randn(6, 5, 4, 4).contiguous(memory_format=torch.channels_last)
    with mixed_statistics(0.5):
        assert norm(x).is_contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            assert norm(x).is_contiguous(memory_format=torch.channels_last)


def test_half_precision_is_mixed_in_single():
    norm = seen(nn.BatchNorm1d(5), (5,))
    x = torch.randn(64, 5)
    half = mixed_batch_norm(x.bfloat16(), norm.running_mean, norm.running_var, share=0.5)
    full = mixed_batch_norm(x, norm.running_mean, norm.running_var, share=0.5)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), full, atol=0.05)


def test_a_layer_without_running_statistics_normalises_by_the_batch():
    norm = nn.BatchNorm1d(3, track_running_stats=False)
    x = torch.randn(4, 3)
    with mixed_statistics(0.9):
        assert torch.equal(norm(x), norm(x))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="from 0 to 1"):
        mixed_statistics(share)


def test_only_weights_and_biases_of_batch_norms_learn_whatever_a_layer_holds_beside():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4, act_layer=nn.PReLU), nn.Linear(4, 2))
    train_batchnorm_only(net)
    learning = {name for name, one in net.named_parameters() if one.requires_grad}
    assert learning == {"1.weight", "1.bias"}
    assert len(list(batchnorms(net))) == 1


def test_networks_without_batch_norms_to_train_are_refused():
    with pytest.raises(ValueError, match="it has LayerNorm"):
        train_batchnorm_only(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    with pytest.raises(ValueError, match="affine=False"):
        train_batchnorm_only(nn.BatchNorm1d(2, affine=False))
