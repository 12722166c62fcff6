"""DAFT in the Trainer of transformers: one callback, and SGD as its optimiser.

Run it on a folder of class folders, such as those that `adaptune demo` draws, and on a folder with
a model of transformers (without one a small model of random weights is made):
    python examples/trainer_loop.py demo/data/twemoji [MODEL]
"""

import sys

import torch
from torch.utils.data import Dataset, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
)

from adaptune.integrations.transformers import daft_callback

torch.manual_seed(0)
steps = [v2.ToImage(), v2.Resize((64, 64)), v2.ToDtype(torch.float32, scale=True)]
steps += [v2.Normalize([0.5] * 3, [0.25] * 3)]
images = ImageFolder(sys.argv[1], v2.Compose(steps))


class Rows(Dataset):
    """Pairs under the names that the Trainer wants."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, row):
        image, label = self.pairs[row]
        return {"pixel_values": image, "labels": label}


train, test = (Rows(part) for part in random_split(images, [0.8, 0.2]))
count = len(images.classes)
if len(sys.argv) > 2:
    model = AutoModelForImageClassification.from_pretrained(
        sys.argv[2], num_labels=count, ignore_mismatched_sizes=True
    )
else:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], num_labels=count)
    model = ResNetForImageClassification(config)

daft = daft_callback("classifier.1", lr=0.05)
trainer = Trainer(
    model,
    TrainingArguments(
        "trainer",
        num_train_epochs=5,
        per_device_train_batch_size=16,
        use_cpu=True,
        report_to=[],
        lr_scheduler_type="cosine",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_drop_last=True,
    ),
    train_dataset=train,
    eval_dataset=test,
    compute_metrics=lambda told: {"right": (told.predictions.argmax(1) == told.label_ids).mean()},
    optimizers=(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), None),
    callbacks=[daft],
)
trainer.train()
print(str(daft.report).splitlines()[0])
print(f"accuracy {100 * trainer.evaluate()['eval_right']:.1f}%")
