"""Take a network elsewhere.

ONNX, with the normalisation inside and the batch norms folded, held against the network.
"""

# %%
# The network is that of [the first page](fine-tune.md). What is written is opened again and must
# give the same answers, at several sizes of the batch.
import json
from pathlib import Path

import adaptune
from adaptune.networks.export import export_network

net = adaptune.Network.load(Path("networks/daft"))
said = export_network(net, Path("exported"), "onnx")
print(json.dumps({key: said[key] for key in list(said)[:8]}, indent=1, default=str)[:600])
print(sorted(one.name for one in Path("exported").iterdir()))

# %%
# Without torch and without adaptune: pixels from 0 to 255 in, logits out.
import numpy as np
import onnxruntime
from PIL import Image

file = sorted(Path("emoji/openmoji/face").glob("*.png"))[0]
with Image.open(file) as opened:
    picture = Image.new("RGB", opened.size, "white")
    picture.paste(opened, mask=opened.convert("RGBA").getchannel("A"))
pixels = np.asarray(picture.resize((48, 48)), np.float32).transpose(2, 0, 1)[None]
served = onnxruntime.InferenceSession("exported/network.onnx")
(name,) = [one.name for one in served.get_inputs()]
(logits,) = served.run(None, {name: pixels})
for at in np.argsort(-logits[0])[:3]:
    print(f"{net.classes[at]}: {logits[0, at]:.2f}")

# %%
# [Export](../export.md) has the other formats and the model card.
