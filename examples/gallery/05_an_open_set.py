"""Things that the network does not know.

The new place shows four classes more than the network was taught: `glc` adapts and says "unknown".
"""

# %%
# The known eight classes and four others, all drawn by OpenMoji. Nobody told the network of
# [the first page](fine-tune.md) about arrows or flags.
import shutil
from pathlib import Path

import adaptune
from adaptune.data.opening import other_domains

net = adaptune.Network.load(Path("networks/daft"))
for kind in (*net.classes, "arrow", "music", "sport", "tool"):
    shutil.copytree(f"drawn/openmoji/{kind}", f"emoji/openmoji-more/{kind}", dirs_exist_ok=True)
data = other_domains(
    {},
    classes=net.classes,
    target="emoji/openmoji-more",
    loading=adaptune.Loading(batch_size=32, cache="ram"),
    open_set=True,
).with_input(net.preprocess, "flip")
task = adaptune.Classification(len(net.classes), unknown=True)


def told() -> dict[str, float]:
    """Score known classes, unknown images, and the harmonic mean of both."""
    scores = adaptune.evaluate(net, data.tests()["openmoji-more"], task).scores
    return {name: round(scores.detail["open_set"][name], 1) for name in ("known", "unknown", "h")}


# %%
# An image is unknown where the prediction's entropy is above a share of the largest possible one.
# Three such thresholds, before adapting: what is gained on unknown images is lost on known ones.
for threshold in (0.3, 0.55, 0.8):
    net.threshold = threshold
    print(threshold, told())

# %%
# `glc` clusters the target one class against all others, learns from what stands out, and keeps the
# paper's threshold of 0.55.
net.threshold = 0.55
for epoch in adaptune.fit(adaptune.GLC(net, task), data, adaptune.Plan(epochs=2)):
    print(epoch.number, {term: round(loss, 3) for term, loss in epoch.terms.items()})
print("after", told())

# %%
# [Open sets](../settings.md#open-sets) says where thresholds come from in a run, and what the three
# numbers are.
