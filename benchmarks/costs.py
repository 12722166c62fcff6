"""Tables of what things cost, keep and miss: a function makes one of what a result holds."""

from __future__ import annotations

from statistics import mean

from benchmarks.few_steps import means
from benchmarks.layout import Results, markdown


def selection(results: Results) -> str:
    """How well each label-free score ranks runs, and what choosing by it costs."""
    found = results["selection"]
    count = max(len(one["cases"]) for one in found.values())
    rows = [
        [
            f"`{name}`",
            "" if one["spearman"] is None else f"{one['spearman']:+.2f}",
            "" if one["gap"] is None else f"{one['gap']:.1f}",
            f"{one['close']} of {count}",
        ]
        for name, one in found.items()
    ]
    return markdown(["score", "Spearman", "gap to the oracle", "within 2 points"], rows)


def choosing(results: Results) -> str:
    """How well each score chooses among finished networks, by the kind of shift."""
    regimes = {name: found for name, found in results["regimes"].items() if found}
    first = next(iter(regimes.values()))
    head = ["score"]
    for name, found in regimes.items():
        pairs = max(len(one["cases"]) for one in found.values())
        head += [f"{name}: Spearman", "gap", f"within 2 of {pairs}", "off by"]
    rows = []
    for score in first:
        row = [f"`{score}`"]
        for found in regimes.values():
            one = found[score]
            row += [
                "" if one["spearman"] is None else f"{one['spearman']:+.2f}",
                "" if one["gap"] is None else f"{one['gap']:.1f}",
                str(one["close"]),
                f"{one['off']:.1f}" if one.get("off") is not None else "",
            ]
        rows.append(row)
    return markdown(head, rows)


def bags(results: Results) -> str:
    """How well each score chooses among finished networks, by what there is to choose from."""
    found = results["bags"]
    head = ["score"]
    for name, scores in found.items():
        pairs = max(one["pairs"] for one in scores.values())
        head += [f"{name}: Spearman", "gap", f"within 2 of {pairs}"]
    rows = []
    for score in next(iter(found.values())):
        row = [f"`{score}`"]
        for scores in found.values():
            one = scores[score]
            row += [
                "" if one["spearman"] is None else f"{one['spearman']:+.2f}",
                "" if one["gap"] is None else f"{one['gap']:.1f}",
                str(one["close"]),
            ]
        rows.append(row)
    return markdown(head, rows)


def scan(results: Results) -> str:
    """How far a scan of few images is from one of all."""
    return markdown(
        ["images", "curvature, as a multiple", "error of means", "error of deviations"],
        [
            [
                size,
                f"{one['curvature']:.2f}",
                f"{one['mean_error']:.3f}",
                f"{100 * one['deviation_error']:.1f}%",
            ]
            for size, one in results["by_size"].items()
        ],
    )


def kills(results: Results) -> str:
    """What differs in runs that were killed and resumed."""
    rows = []
    for row in results["rows"]:
        where = ", ".join(f"{place} {count}" for place, count in row["killed in"].items())
        counted = [str(row[key]) for key in row if key.endswith("differ")]
        rows.append([f"`{row['method']}`", str(row["kills"]), str(row["runs"]), where, *counted])
    head = ["method", "kills", "runs", "killed in", "tensors that differ", "metrics", "results"]
    return markdown(head, rows)


def probes(results: Results) -> str:
    """How long the linear probe takes beside scikit-learn, and how far apart their answers are."""
    rows = []
    for name, one in results["rows"].items():
        size = f"{one['rows']:,} x {one['columns']:,}, {one['classes']} classes"
        ratio = f"{one['ratio']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
        scaled = " (scaled)" if one["swept"] < 50 else ""
        cells = [f"{one['ours']:.2f}", f"{one['bare']:.0f}{scaled}", ratio]
        apart = [f"{one['loss']:.1e}", f"{one['accuracy']:.2f}"]
        rows.append([f"`{name}`: {size}", *cells, *apart])
    head = ["", "seconds", "scikit-learn", "ratio", "objective apart", "accuracy apart, points"]
    return markdown(head, rows)


def growth(results: Results) -> str:
    """With what power time and memory grow; what grows faster than linearly is bold."""
    rows = []
    for row in results["rows"]:
        said = [f"{row[key]:.2f}" for key in ("time", "memory")]
        marks = [
            f"**{one}**" if key in row["faster"] else one
            for key, one in zip(("time", "memory"), said, strict=True)
        ]
        largest = f"{row['sizes'][-1]:,} {row['by']}"
        costs = [f"{row['seconds'][-1]:.1f}", f"{row['megabytes'][-1]:.0f}"]
        rows.append([row["what"], row["by"], *marks, largest, *costs])
    head = ["", "varied", "time", "memory", "at", "seconds", "MB"]
    return markdown(head, rows)


def manifests(results: Results) -> str:
    """What listing tables of so many rows takes."""
    rows = [
        [
            f"{one['manifest rows']:,}",
            f"{one['file']:.1f}",
            f"{one['seconds']:.1f}",
            f"{one['held']:.0f}",
            f"{one['peak']:.0f}",
        ]
        for one in results["rows"]
    ]
    return markdown(["rows", "MB of the file", "seconds", "MB held", "MB at the peak"], rows)


def of_methods(results: Results) -> str:
    """What a step of each method costs over one of fine-tuning, the cheapest first."""
    rows = [
        [
            f"`{one['method']}`",
            one["setting"],
            one["on"],
            f"{one['ratio']:.2f} ({one['low']:.2f} to {one['high']:.2f})",
        ]
        for one in sorted(results["rows"], key=lambda one: one["ratio"])
    ]
    return markdown(["method", "setting", "on", "steps of `ft`: median (range)"], rows)


def ratios(results: Results) -> str:
    """Seconds of ours over those of the bare work, pair by pair."""
    rows = [
        [name, f"{one['ratio']:.2f} ({one['low']:.2f} to {one['high']:.2f})", f"{one['ours']:.3g}"]
        for name, one in results["ratios"].items()
    ]
    rows += [[name, f"{one:.2f}", ""] for name, one in results["peaks"].items()]
    return markdown(["ours / bare", "median (lowest to highest)", "seconds"], rows)


def sampled(results: Results) -> str:
    """Conversion of 50,000 images: what it costs, and how far train mode is from eval mode."""
    rows = [
        [
            name,
            f"{one['images']:,}",
            f"{one['ratio']:.3f}",
            f"{one['gap']:.4f} ± {one['standard_error']:.4f}",
        ]
        for name, one in results["sampled"].items()
        if isinstance(one, dict)
    ]
    return markdown(["", "images", "over a plain pass", "train mode from eval mode"], rows)


def steps(results: Results) -> str:
    """Accuracy at home and elsewhere by images a class, steps and method."""
    found = means(results["rows"])
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    rows = []
    for (images, steps), own in found.items():
        cells = [f"{own[n][0]:.1f} / {own[n][1]:.1f}" if n in own else "" for n in names]
        rows.append([str(images or "all"), str(steps), *cells])
    return markdown(["images a class", "steps", *(f"`{name}`" for name in names)], rows)


def courses(results: Results) -> str:
    """How each way went through a cycle of domains: means over streams and their networks."""
    rows = []
    for name, found in results["streams"].items():
        cycled = [one for one in found if "courses" in one]
        for batch, method in dict.fromkeys((one["batch"], one["method"]) for one in cycled):
            own = [
                course
                for one in cycled
                if (one["batch"], one["method"]) == (batch, method)
                for course in one["courses"]
            ]
            said = [
                *(mean(one["cycles"][at] for one in own) for at in (0, -1)),
                mean(one["forgotten"] for one in own),
            ]
            collapsed = sum(one["collapsed"] > 0 for one in own)
            rows.append(
                [
                    f"`{method}`",
                    f"{name}, {batch}",
                    *(f"{value:.1f}" for value in said),
                    f"{collapsed} of {len(own)}",
                ]
            )
    head = ["method", "stream, batch", "first cycle", "last cycle", "forgotten", "collapsed"]
    return markdown(head, rows)


def lasting(results: Results) -> str:
    """What a batch takes at the beginning and end of a long stream, and what memory grew by."""
    rows = [
        [
            f"`{one['method']}`",
            *(f"{one[key]:.2f}" for key in ("first", "last")),
            f"{one['last'] / one['first']:.2f}",
            f"{one['grown']:+.1f}",
            f"{one['reached'][0]:.1f}",
            f"{one['reached'][1]:.1f}",
            f"{100 * one['collapsed']:.0f}%",
        ]
        for one in results["rows"]
    ]
    times = ["ms a batch, first 500", "last 500", "ratio", "MB grown"]
    head = ["method", *times, "accuracy, first 500", "last 500", "collapsed"]
    return markdown(head, rows)
