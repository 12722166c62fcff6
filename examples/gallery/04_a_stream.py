"""Adapt while images come.

Images arrive in batches and each is answered at once, by a network that adjusts: `alpha-bn` and
`tent`.
"""

# %%
# The network of [the first page](fine-tune.md) meets OpenMoji, in a random order and without
# labels; those that folders' names tell are used to count, after the answers.
from pathlib import Path

import adaptune
from adaptune.data.opening import other_domains

START = Path("networks/daft")
net = adaptune.Network.load(START)
task = adaptune.Classification(len(net.classes))
loading = adaptune.Loading(batch_size=16, cache="ram")
data = other_domains({}, classes=net.classes, target="emoji/openmoji", loading=loading)
data = data.with_input(net.preprocess)
truth = [net.classes.index(path.parent.name) for path in data.target.rows.paths]

# %%
# `alpha-bn` normalises by a mix of the network's statistics and the batch's; an `alpha` of 1 is the
# network as it was. `tent` moves weights and biases of batch norms, one step a batch.
methods = {
    "as it was": lambda net: adaptune.AlphaBN(net, task, alpha=1.0),
    "alpha-bn": lambda net: adaptune.AlphaBN(net, task),
    "alpha-bn, half and half": lambda net: adaptune.AlphaBN(net, task, alpha=0.5),
    "tent": lambda net: adaptune.Tent(net, task),
}
right = {}
for name, made in methods.items():
    method = made(adaptune.Network.load(START))
    right[name] = []
    for said in adaptune.stream(method, data.unlabeled(shuffled=True), adaptune.Plan()):
        guesses = zip(said.logits.argmax(1).tolist(), said.index.tolist(), strict=True)
        right[name] += [guess == truth[row] for guess, row in guesses]
    print(f"{name}: {100 * sum(right[name]) / len(right[name]):.1f}%")

# %%
# How often each was right so far, from the first image to the last.
from itertools import accumulate

from matplotlib import pyplot

figure, axis = pyplot.subplots(figsize=(6, 3))
for name, one in right.items():
    share = [100 * total / (at + 1) for at, total in enumerate(accumulate(one))]
    axis.plot(range(20, len(share)), share[20:], label=name)
axis.set_xlabel("images answered")
axis.set_ylabel("right so far, percent")
axis.legend()

# %%
# `adaptune stream run new-images/ --method alpha-bn --out predictions.csv` does the same with a
# run: [streams](../streams.md).
