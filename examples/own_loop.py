"""DAFT in a training loop of your own: convert batch norms, condition the head, then train.

Run it on a folder of class folders, such as those that `adaptune demo` draws:
    python examples/own_loop.py demo/data/twemoji
"""

import sys
from pathlib import Path

import timm
import torch
from torch.utils.data import DataLoader, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from adaptune import Plan, convert_batchnorm
from adaptune.data.inputs.image import read_image
from adaptune.networks.backbones import BUILT_IN, packaged, read_weights
from adaptune.networks.heads import Readout
from adaptune.ops.conditioning import Spread
from adaptune.types import Group

torch.manual_seed(0)
steps = [v2.Resize((64, 64)), v2.ToDtype(torch.float32, scale=True)]
steps += [v2.Normalize([127 / 255] * 3, [128 / 255] * 3)]
images = ImageFolder(sys.argv[1], v2.Compose(steps), loader=lambda path: read_image(Path(path)))
train, test = random_split(images, [0.8, 0.2])
loader = DataLoader(train, 64, shuffle=True, drop_last=True)

# Any pretrained network will do: here timm's, with the weights that a package carries.
model = timm.create_model("tf_efficientnet_lite0")
weights = read_weights(packaged(BUILT_IN["efficientnet-lite0"].package))
model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
model.reset_classifier(0)

# One pass over the data serves the batch norms and the head.
spread = Spread()
print(str(convert_batchnorm(model, loader, watch=spread)).splitlines()[0])
head = Readout(model.num_features, len(images.classes)).zero_()
head.condition(spread, floor=0.05, curvature=0.5)  # that of the cross-entropy

plan, epochs = Plan(momentum=0.9), 5
fast = plan.rate(Group(head, rate=0.25, curvature=head.bound))
groups = [{"params": model.parameters(), "lr": 0.1}, {"params": head.parameters(), "lr": fast}]
optimizer = torch.optim.SGD(groups, momentum=plan.momentum)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
for epoch in range(epochs):
    model.train()
    for x, y in loader:
        loss = torch.nn.functional.cross_entropy(head(model(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = sum(int((head(model(x)).argmax(1) == y).sum()) for x, y in DataLoader(test, 64))
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, accuracy {100 * right / len(test):.1f}%")
torch.save(torch.nn.Sequential(model, head.fold()).state_dict(), "own_loop.pt")
