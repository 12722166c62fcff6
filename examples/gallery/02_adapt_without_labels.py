"""Adapt to images without labels.

Labelled Twemoji and unlabelled OpenMoji: a critic of domains, and batch norms measured anew.
"""

# %%
# The folders and the network `daft` are those of [the first page](fine-tune.md). What is given as
# the target is served without its labels; that it has some is used to test, and for nothing else.
from pathlib import Path

import adaptune

net = adaptune.Network.load(Path("networks/daft"))
task = adaptune.Classification(len(net.classes))
data = adaptune.open_domains(
    "emoji/twemoji",
    target="emoji/openmoji",
    shares=adaptune.Shares(val_share=0.15, test_share=0.25, ood_images="all"),
    loading=adaptune.Loading(batch_size=32, cache="ram"),
).with_input(net.preprocess, "flip")
print(len(data.augmented), "labelled images,", len(data.target), "without labels")


def accuracy(net: adaptune.Network) -> dict[str, float]:
    """Test on held-out Twemoji, and on the target."""
    return {
        where: round(adaptune.evaluate(net, rows, task).scores.main.value, 1)
        for where, rows in data.tests().items()
    }


print("before", accuracy(net))

# %%
# `adabn` moves no weight: it takes the statistics of batch norms anew from the target's images.
method = adaptune.AdaBN(net, task)
for epoch in adaptune.fit(method, data, adaptune.Plan(epochs=1)):
    print(sorted(epoch.notes))
net.save(Path("networks/adabn"))
print("adabn", accuracy(net))

# %%
# `dann` trains from the pretrained network on both sides at once, and a critic that tries to tell
# their features apart pushes the body to make that impossible. Its rate is its own default.
net = adaptune.open_backbone("efficientnet-lite0", data.classes, size=48)
for epoch in adaptune.fit(adaptune.DANN(net, task, hidden=256), data, adaptune.Plan(epochs=3)):
    print(epoch.number, {term: round(loss, 3) for term, loss in epoch.terms.items()})
net.save(Path("networks/dann"))
print("dann", accuracy(net))

# %%
# Where the target has labels for a few images, or where its classes differ, other methods fit:
# [settings](../settings.md) has them by what there is, and [which method](../advice.md) says what
# gained how much over six pairs of vendors.
