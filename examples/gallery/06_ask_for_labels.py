"""Ask for the labels of a few images.

Somebody has time for two dozen labels: `lftl` says of which images.
"""

# %%
# Here the target's own labels answer (`oracle=True`); in a run, people do, in a table that the run
# waits for. The network is that of [the first page](fine-tune.md).
from pathlib import Path

import adaptune
from adaptune.data.opening import other_domains

START = Path("networks/daft")
net = adaptune.Network.load(START)
task = adaptune.Classification(len(net.classes))
data = other_domains(
    {},
    classes=net.classes,
    target="emoji/openmoji",
    loading=adaptune.Loading(batch_size=32, cache="ram"),
    oracle=True,
).with_input(net.preprocess, "flip")
truth = {row: net.classes.index(one.parent.name) for row, one in enumerate(data.target.rows.paths)}


def unasked(net: adaptune.Network, asked: set[int]) -> float:
    """Give the accuracy on images whose labels nobody gave, in percent."""
    sample = adaptune.evaluate(net, data.tests()["openmoji"], task).sample
    guesses = zip(sample.index.tolist(), sample.logits.argmax(1).tolist(), strict=True)
    right = [guess == truth[row] for row, guess in guesses if row not in asked]
    return 100 * sum(right) / len(right)


print(f"before: {unasked(net, set()):.1f}% of all images")

# %%
# Three rounds of eight questions, one at the start of each epoch.
method = adaptune.LFTL(net, task, ask=24, rounds=3, lr=0.01)
for epoch in adaptune.fit(method, data, adaptune.Plan(epochs=3)):
    print(epoch.number, "asked so far:", len(data.queried))
print(f"after: {unasked(net, data.queried):.1f}% of the images that were not asked about")

# %%
# What it asked about first.
from matplotlib import pyplot

figure, axes = pyplot.subplots(3, 8, figsize=(8, 3.2))
for axis, row in zip(axes.flat, sorted(data.queried), strict=True):
    path = data.target.rows.paths[row]
    axis.imshow(pyplot.imread(path))
    axis.set_title(path.parent.name, fontsize=6)
    axis.axis("off")

# %%
# [Labels on request](../settings.md#labels-on-request) says how people answer, and
# [pages in a browser](../labelling.md) where.
