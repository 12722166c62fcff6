"""Choose a network without labels.

Five finished networks and unlabelled images of the place where one of them is to work.
"""

# %%
# The networks are those that the pages before this one left: fine-tuned in two ways, and adapted in
# three. Validation images are Twemoji's; OpenMoji's images have no labels.
from pathlib import Path

from lightning_fabric import Fabric

import adaptune
from adaptune.selection.scoring import LabelFreeScorer

NAMES = ["ft", "daft", "adabn", "dann", "shot"]
networks = {name: adaptune.Network.load(Path("networks", name)) for name in NAMES}
first = networks["ft"]
task = adaptune.Classification(len(first.classes))
data = adaptune.open_domains(
    "emoji/twemoji",
    {"openmoji": Path("emoji/openmoji")},
    shares=adaptune.Shares(val_share=0.15, test_share=0.25, ood_images="all"),
    loading=adaptune.Loading(cache="ram"),
).with_input(first.preprocess)

# %%
# Every score of every network, from one pass over the images. Higher is better; what estimates
# accuracy is in percent.
SHOWN = ["id-validation", "confidence-calibrated", "dispersion", "nuclear-norm", "snd"]
fabric = Fabric(accelerator="cpu", devices=1)
scores, truth = {}, {}
for name, net in networks.items():
    done = adaptune.evaluate(net, data.tests()["openmoji"], task)
    scores[name] = LabelFreeScorer(net, data, fabric)(done.sample)
    truth[name] = done.scores.main.value
    print(name, {one: round(scores[name][one], 2) for one in SHOWN})

# %%
# What the labels say afterwards: which network each score would have chosen, and how far below the
# best it lies.
best = max(truth.values())
print({name: round(value, 1) for name, value in truth.items()})
for one in SHOWN:
    chosen = max(NAMES, key=lambda name: scores[name][one])
    print(f"{one} chooses {chosen}, {best - truth[chosen]:.1f} points below the best")

# %%
# Five networks decide nothing about scores; [choosing without labels](../selection.md) has what was
# measured on 33 cases. On the command line: `adaptune choose RUN RUN ... --images new-photos`.
