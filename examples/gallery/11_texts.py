"""Adapt a network that reads texts.

Sentences from SciPy's documentation with labels, and those of NumPy's without: which word matters?
"""

# %%
# Somebody sorts sentences by what they are about: linear algebra, Fourier transforms or chance. A
# table of two columns, `text` and `label`, is all that is needed. Here one is made of what the
# authors of two packages wrote of their functions; yours may hold tickets, reviews or abstracts.
import csv
import inspect
import re
from pathlib import Path

import numpy
import scipy.fft
import scipy.linalg
import scipy.stats

MODULES = {
    "scipy": {"algebra": scipy.linalg, "waves": scipy.fft, "chance": scipy.stats},
    "numpy": {"algebra": numpy.linalg, "waves": numpy.fft, "chance": numpy.random},
}


def sentences(module) -> list[str]:
    """Give the plain sentences of what a module says of its functions, each once."""
    found = {}
    for name, one in sorted(vars(module).items()):
        if callable(one) and not name.startswith("_"):
            for part in re.split(r"\n\n|(?<=\.)\s", inspect.getdoc(one) or ""):
                words = part.split()
                if 6 <= len(words) <= 40 and re.fullmatch(r"[A-Z][\w\s,;'-]*\.", part):
                    found[" ".join(words)] = name
    return list(found)


for package, modules in MODULES.items():
    with Path(f"{package}.csv").open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "label"])
        for label, module in modules.items():
            said = sentences(module)
            chosen = said[:: max(1, len(said) // 150)]
            writer.writerows([text, label] for text in chosen)
            print(package, label, len(chosen), "sentences, such as:", chosen[0])

# %%
# `open_domains` splits the table by a checksum of each text, so one that stands twice is never both
# trained on and tested. NumPy's sentences are the target: their labels are used to test alone.
import adaptune
from adaptune.data.readers.texts import TextSource

data = adaptune.open_domains(
    "scipy.csv",
    target="numpy.csv",
    texts=TextSource(),
    shares=adaptune.Shares(val_share=0.15, test_share=0.2),
    loading=adaptune.Loading(batch_size=32),
)
print(data.classes, {split: len(rows) for split, rows in data.sets.items()}, len(data.target))

# %%
# `ngrams` hashes words and pairs of them and needs no weights. With the extra `text`,
# `adaptune.open_backbone("minilm", ...)` or `"hf:FOLDER"` open an encoder instead, and nothing else
# changes. `ft` learns from SciPy alone, `dann` from both.
task = adaptune.Classification(len(data.classes))
for name, options in {"ft": {"lr": 0.3}, "dann": {"lr": 0.3, "hidden": 64}}.items():
    net = adaptune.open_backbone("ngrams", data.classes)
    seen = data.with_input(net.preprocess)
    method = adaptune.METHODS[name](net, task, **options)
    for epoch in adaptune.fit(method, seen, adaptune.Plan(epochs=10)):
        loss = epoch.terms.get("task", 0.0)
    reached = {
        where: round(adaptune.evaluate(net, rows, task).scores.main.value, 1)
        for where, rows in seen.tests().items()
    }
    print(f"{name}, loss {loss:.2f}:", reached)
    net.save(Path("networks", f"texts-{name}"))

# %%
# Which words spoke for an answer and against another class: the gradient of one logit less the
# other, times the input embedding. The page of a run shades its surest mistakes by that.
from lightning_fabric import Fabric

from adaptune.runs.shading import word_shades

text = "Compute the inverse of a random matrix by its transform."
names = list(data.classes)
fabric = Fabric(accelerator="cpu", devices=1)
(shades,) = word_shades(net, [text], [names.index("algebra")], [names.index("chance")], fabric)
for word, shade in zip(text.split(), shades, strict=True):
    print(f"{shade:+.2f} {word}")

# %%
# On the command line this is `adaptune fit scipy.csv --backbone ngrams --method dann --target
# numpy.csv --out run`; `adaptune export run` writes it for other software. A few hundred sentences
# decide nothing about methods: [text](../text.md) says what was measured and what texts lack.
