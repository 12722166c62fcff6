"""Tables of methods compared: a function makes one of what a result holds."""

from __future__ import annotations

from statistics import mean

from adaptune.results.ranking import Place, bootstrap, reached
from adaptune.results.row import RunRow
from adaptune.results.score import Measure
from benchmarks.layout import Results, markdown, percent

PLACES: tuple[Place, Place] = ("id", "ood")


def summary(results: Results) -> str:
    """Each method's accuracy at home and on every other domain, over seeds."""
    lines = results["summary"]
    domains = list(lines[0]["domains"])
    return markdown(
        ["method", "ID %", *(f"{name} %" for name in domains), "distortion", "seconds"],
        [
            [
                f"`{line['method']}`",
                *(percent(cell) for cell in (line["id"], *line["domains"].values())),
                f"{line['distortion']:.3f}",
                f"{line['seconds']:.0f}",
            ]
            for line in lines
        ],
    )


def standings(results: Results) -> str:
    """Each method over all training domains."""
    return markdown(
        ["method", "ID %", "mean OOD %", "mean rank", "distortion"],
        [
            [
                f"`{line['method']}`",
                percent(line["id"]),
                percent(line["ood"]),
                f"{line['rank']:.2f}",
                f"{line['distortion']:.3f}",
            ]
            for line in results["summary"]
        ],
    )


def domains(results: Results) -> str:
    """ID / mean OOD accuracy of each method by training domain."""
    found = results["by_domain"]
    names = [line["method"] for line in results["summary"]]
    cells = {
        (line["method"], domain): f"{line['id']['mean']:.1f} / {line['ood']['mean']:.1f}"
        for domain, lines in found.items()
        for line in lines
    }
    return markdown(
        ["method", *found],
        [[f"`{name}`", *(cells.get((name, d), "") for d in found)] for name in names],
    )


def overview(results: Results) -> str:
    """As `domains`, with the means over training domains in front."""
    found = results["by_domain"]
    lines = {line["method"]: line for line in results["summary"]}
    cells = {(one["method"], d): one for d, few in found.items() for one in few}
    rows = []
    for name, line in lines.items():
        row = [name, f"{line['id']['mean']:.1f}", f"{line['ood']['mean']:.1f}"]
        row.append(f"{line['distortion']:.2f}")
        for domain in found:
            one = cells.get((name, domain))
            row.append(f"{one['id']['mean']:.1f} / {one['ood']['mean']:.1f}" if one else "")
        rows.append(row)
    return markdown(["", "ID %", "OOD %", "distortion", *found], rows)


def versus(results: Results) -> str:
    """Paired differences of accuracy, with intervals, wins, ties and losses."""
    rows = []
    for one in results["versus"]:
        if one["one"].startswith("daft") and one["other"] in ("ft", "lp-ft", "daft"):
            counts = f"{one['wins']} / {one['ties']} / {one['losses']}"
            pair = f"`{one['one']}` - `{one['other']}`"
            rows.append([pair, percent(one["ood"], "+"), percent(one["id"], "+"), counts])
    return markdown(["", "OOD points", "ID points", "wins / ties / losses"], rows)


OURS = "daft (default)"
"""What rivals are compared with."""


def rivals(results: Results) -> str:
    """DAFT as it comes less each rival: points at home and elsewhere, and what a run takes."""
    took = {line["method"]: line["seconds"] for line in results["summary"]}
    rows = []
    for one in results["versus"]:
        if one["one"] == OURS:
            counts = f"{one['wins']} / {one['ties']} / {one['losses']}"
            seconds = f"{took[OURS]:.0f} / {took[one['other']]:.0f}"
            differences = [percent(one[place], "+") for place in ("ood", "id")]
            rows.append([f"`{one['other']}`", *differences, counts, seconds])
    head = ["DAFT as it comes less", "OOD points", "ID points", "wins / ties / losses", "seconds"]
    return markdown(head, rows)


def lost(results: Results) -> str:
    """Where a rival is above DAFT as it comes: the mean over seeds there, and the best rival's."""
    runs: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in results["rows"]:
        places = {f"{row['domain']} (ID)": row["id_accuracy"], **row["ood"]}
        for place, value in places.items():
            cell = runs.setdefault((row["domain"], place), {})
            cell.setdefault(row["method"], []).append(value)
    rows = []
    for (domain, place), cell in runs.items():
        means = {name: mean(values) for name, values in cell.items()}
        best = max((name for name in means if not name.startswith("daft")), key=means.__getitem__)
        if means[best] > means[OURS]:
            behind = f"{means[best] - means[OURS]:.1f}"
            told = [f"{means[OURS]:.1f}", f"{means[best]:.1f}", behind]
            rows.append([domain, place, f"`{best}`", *told])
    head = [
        "trained on",
        "tested on",
        "first",
        "DAFT as it comes %",
        "the first %",
        "points behind",
    ]
    return markdown([*head[:5], f"{head[5]} ({len(rows)} of {len(runs)} tests)"], rows)


def by_test(results: Results) -> str:
    """What methods reach on each test set, and by how much the best of all is ahead there."""
    tests = results["tests"]
    names = [line["method"] for line in results["summary"]]
    head = ["trained on", "tested on", *(f"`{name}` %" for name in names)]
    head += [f"`{tests[0]['best']}` - `{other}`, points" for other in tests[0]["gaps"]]
    return markdown(
        head,
        [
            [
                one["trained"],
                one["tested"],
                *(f"{one['reached'][name]:.1f}" for name in names),
                *(percent(gap, "+") for gap in one["gaps"].values()),
            ]
            for one in tests
        ],
    )


def tuned(results: Results) -> str:
    """What tuning chose, by training domain."""
    rows = [
        [
            domain,
            f"`{name}`",
            ", ".join(f"{key} {value:.3g}" for key, value in one["values"].items()),
            f"{len(one['trials'])}, {sum(t['state'] == 'pruned' for t in one['trials'])}",
        ]
        for domain, methods in results["tuned"].items()
        for name, one in methods.items()
    ]
    return markdown(["trained on", "method", "chosen", "trials, stopped early"], rows)


def default(results: Results) -> str:
    """DAFT as it comes less DAFT tuned, by training domain, in points."""
    rows, measure = [], Measure.from_dict(results.get("score"))
    runs = [RunRow.from_dict(row, measure) for row in results["rows"]]
    for domain in results["by_domain"]:
        own = [row for row in runs if row.domain == domain]
        gaps = {}
        for place in PLACES:
            value = {(row.method, row.seed): reached(row, place) for row in own}
            seeds = sorted({row.seed for row in own})
            gaps[place] = [value["daft (default)", s] - value["daft", s] for s in seeds]
        cells = [vars(bootstrap({domain: gap})) for gap in gaps.values()]
        rows.append([domain, *(percent(cell, "+") for cell in cells)])
    return markdown(["trained on", "ID points", "OOD points"], rows)


def rates(results: Results) -> str:
    """Accuracy by rate, and the width of the plateau."""
    rows, measure = [], Measure.from_dict(results.get("score"))
    for domain, methods in results["rates"].items():
        for name, one in methods.items():
            for place in PLACES:
                key, label = measure.key(place), place.upper()
                curve = [f"{accuracy:.1f}" for _, accuracy in one["curves"][key]]
                width = f"**{one['width'][key]:.2f}**"
                rows.append([f"{domain}, `{name}`, {label}", width, *curve])
    first = next(iter(next(iter(results["rates"].values())).values()))
    heads = [f"{rate:.2g}" for rate, _ in first["curves"][measure.key("id")]]
    return markdown(["", "decades", *heads], rows)


def corruptions(results: Results) -> str:
    """Mean corruption error against fine-tuning, and accuracy over all corruptions."""
    from benchmarks.sources.corruptions import mean_corruption_error

    def errors(method: str) -> dict[str, float]:
        runs = [row["ood"] for row in results["rows"] if row["method"] == method]
        return {test: 100 - mean(run[test] for run in runs) for test in runs[0]}

    base = errors("ft")
    return markdown(
        ["method", "ID %", "corrupted %", "mean corruption error (ft: 100)", "distortion"],
        [
            [
                f"`{line['method']}`",
                percent(line["id"]),
                percent(line["ood"]),
                f"{mean_corruption_error(errors(line['method']), base):.1f}",
                f"{line['distortion']:.3f}",
            ]
            for line in results["summary"]
        ],
    )


def gains(results: Results) -> str:
    """What each method gains over its reference, and on how many pairs of domains it does."""
    rows = []
    for one in results["gains"]:
        won = sum(pair["value"] > pair["reference"] for pair in one["pairs"])
        rows.append(
            [
                one["setting"],
                f"`{one['variant']}`",
                f"`{one['against']}`",
                f"{one['measure']}, {one['unit']}",
                percent(one, "+"),
                f"{won} of {len(one['pairs'])}",
            ]
        )
    return markdown(["setting", "method", "against", "measure", "gain", "pairs won"], rows)


def ways(results: Results) -> str:
    """What each method reaches in its setting, and what scores without labels say of it."""
    scores = ("information-maximisation", "snd", "transfer-score")
    rows = []
    for part, method in dict.fromkeys((one["part"], one["method"]) for one in results["rows"]):
        runs = [r for r in results["rows"] if (r["part"], r["method"]) == (part, method)]
        open_set = [
            f"{mean(run[key] for run in runs):.1f}" if key in runs[0] else ""
            for key in ("known", "unknown", "h")
        ]
        said = [f"{mean(run['label_free'][score] for run in runs):.2f}" for score in scores]
        reached = [f"{mean(run[key] for run in runs):.1f}" for key in ("id", "accuracy")]
        rows.append([part, f"`{method}`", *reached, *open_set, *said])
    head = ["setting", "method", "ID %", "target %", "OS* %", "UNK %", "H %"]
    return markdown([*head, *(f"`{score}`" for score in scores)], rows)


def choices(results: Results) -> str:
    """How far below the best run of a setting the one lies that a score without labels chooses."""
    parts = {
        part: found
        for part, found in results["selection"].items()
        if len({one["method"] for one in results["rows"] if one["part"] == part}) > 1
    }
    scores = next(iter(parts.values()))
    rows = [[f"`{score}`", *(_gap(found[score]) for found in parts.values())] for score in scores]
    return markdown(["score", *parts], rows)


def _gap(found: Results) -> str:
    if found["gap"] is None:
        return ""
    return f"{found['gap']:.1f}, {found['close']} of {len(found['cases'])}"


def backbones(results: Results) -> str:
    """DAFT by network, and what it is above others there; variants are called METHOD, NETWORK."""
    told = {line["method"]: line for line in results["summary"]}
    apart = {(one["one"], one["other"]): one for one in results["versus"]}
    rows = []
    for name in told:
        method, _, network = name.partition(", ")
        if method != "daft" or network.startswith("interpolated"):
            continue
        row = [network, *(f"{told[name][place]['mean']:.1f}" for place in ("id", "ood"))]
        for other in ("ft", "lp-ft", "daft, interpolated"):
            one = apart[name, f"{other}, {network}"]
            row.append(" / ".join(percent(one[place], "+") for place in ("id", "ood")))
        rows.append(row)
    less = ["`ft` (ID / OOD)", "`lp-ft`", "half-way back"]
    return markdown(["network", "`daft` ID", "OOD", *(f"less {one}" for one in less)], rows)
