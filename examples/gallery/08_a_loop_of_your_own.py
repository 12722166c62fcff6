"""A training loop of your own.

One call converts the batch norms of any torch module; the loop, the optimiser and the model stay
yours.
"""

# %%
# A small network is trained on scikit-learn's scanned digits: that is the pretrained one.
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
read = load_digits()
images = torch.tensor(read.images, dtype=torch.float32).div(16)[:, None]
labels = torch.tensor(read.target)
model = nn.Sequential(
    *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
    *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(4)),
    *(nn.Flatten(), nn.Linear(256, 10)),
)


def train(model: nn.Module, loader: DataLoader, epochs: int, rate: float) -> None:
    """Train as anybody would."""
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Give the share of right answers, in percent."""
    model.eval()
    with torch.no_grad():
        return 100 * (model(x).argmax(1) == y).float().mean().item()


train(model, DataLoader(TensorDataset(images[:900], labels[:900]), 50, shuffle=True), 8, 0.05)
print(f"scanned digits: {accuracy(model, images[900:], labels[900:]):.1f}%")

# %%
# Two new domains of other writers: a little noisy, and dim, grey and noisy. A hundred images of
# each have labels. Six epochs at a low rate, from one network, with the conversion and without it.
from copy import deepcopy

import adaptune

noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
places = {"noisy": images + 0.3 * noise, "dim": 0.4 * images + 0.5 + 0.15 * noise}
for name, x in places.items():
    loader = DataLoader(TensorDataset(x[900:1000], labels[900:1000]), 50, shuffle=True)
    test = x[1000:], labels[1000:]
    print(f"{name}, before: {accuracy(model, *test):.1f}%")
    for converted in (False, True):
        one = deepcopy(model)
        if converted:
            print(str(adaptune.convert_batchnorm(one, loader)).splitlines()[0])
        torch.manual_seed(1)
        train(one, loader, 6, 0.001)
        print(f"{name}, converted={converted}: {accuracy(one, *test):.1f}%")

# %%
# The conversion leaves the model's function as it is and changes what its batch norms normalise by:
# [batch norm](../batchnorm.md). It keeps what the model knows of the new domain; where that is next
# to nothing, as of dim digits, there is nothing to keep, and plain train mode, which normalises by
# the new images at once, is ahead. Two layers and one seed say no more than that; what it is worth
# to pretrained networks was [measured](../benchmarks.md). DAFT's head in a loop of your own is in
# [own_loop.py](../../examples/own_loop.py).
