"""Adapt a finished network, its images gone.

A network, unlabelled images of a new place, and nothing else: `shot`.
"""

# %%
# The network is that of [the first page](fine-tune.md); its training images are not opened here.
from pathlib import Path

import adaptune
from adaptune.data.opening import other_domains

net = adaptune.Network.load(Path("networks/daft"))
task = adaptune.Classification(len(net.classes))
loading = adaptune.Loading(batch_size=32, cache="ram")
data = other_domains({}, classes=net.classes, target="emoji/openmoji", loading=loading)
data = data.with_input(net.preprocess, "flip")


def accuracy() -> float:
    """Test on the target, whose labels are used for this alone."""
    return adaptune.evaluate(net, data.tests()["openmoji"], task).scores.main.value


print(f"before: {accuracy():.1f}%")

# %%
# Predictions on the target are to be sure, one by one, and diverse, all together; clusters of
# features give labels anew at the start of every epoch. The head stays as it is.
reached = []
for epoch in adaptune.fit(adaptune.SHOT(net, task), data, adaptune.Plan(epochs=3)):
    reached.append(accuracy())
    print(epoch.number, {term: round(loss, 3) for term, loss in epoch.terms.items()})
net.save(Path("networks/shot"))
print(f"after: {reached[-1]:.1f}%")

# %%
# In a real case there is no such curve, since nobody has the labels: how epochs are chosen then is
# said in [choosing without labels](../selection.md).
from matplotlib import pyplot

figure, axis = pyplot.subplots(figsize=(5, 2.6))
axis.plot(range(len(reached)), reached, "o-", color="#0f766e")
axis.set_xticks(range(len(reached)))
axis.set_xlabel("epoch")
axis.set_ylabel("accuracy on OpenMoji, percent")
