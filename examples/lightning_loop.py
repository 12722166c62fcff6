"""DAFT in the Trainer of Lightning: one callback, and SGD as its optimiser.

Run it on a folder of class folders, such as those that `adaptune demo` draws:
    python examples/lightning_loop.py demo/data/twemoji
"""

import sys

import timm
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from adaptune.integrations.lightning import daft_callback

torch.manual_seed(0)
steps = [v2.ToImage(), v2.Resize((64, 64)), v2.ToDtype(torch.float32, scale=True)]
images = ImageFolder(sys.argv[1], v2.Compose([*steps, v2.Normalize([0.5] * 3, [0.25] * 3)]))
train, test = random_split(images, [0.8, 0.2])


class Classifier(LightningModule):
    """A network of timm's, trained as Lightning's own examples are."""

    def __init__(self):
        super().__init__()
        self.model = timm.create_model("test_resnet", num_classes=len(images.classes))

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        return cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
        return [optimizer], [schedule]


daft = daft_callback("model.fc", lr=0.05)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
trainer = Trainer(max_epochs=5, accelerator="cpu", callbacks=[daft], **quiet)
net = Classifier()
trainer.fit(net, DataLoader(train, 16, shuffle=True, drop_last=True))
print(str(daft.report).splitlines()[0])
trainer.test(net, DataLoader(test, 64))
