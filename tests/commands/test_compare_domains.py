"""`compare` over several domains, tuned or at several rates: laid out fairly, counted rightly."""

import json
from dataclasses import replace
from shutil import copy

import pytest
import yaml
from conftest import draw_domain

from adaptune.commands import main
from adaptune.report import page
from adaptune.results.run import read_results
from adaptune.studies import grid

pytestmark = pytest.mark.usefixtures("drawn")

NAMES = ("comic", "photo", "sketch")
RATES = [10 ** (half / 2) for half in range(-8, 3)]


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder of three tiny domains, of which one has a class of its own and one lacks one."""
    folder = tmp_path_factory.mktemp("three")
    for number, name in enumerate(NAMES):
        draw_domain(folder / name, shift=30.0 * number, each=8)
    (folder / "comic" / "rings").rename(folder / "comic" / "zigzag")
    return folder


@pytest.fixture(scope="module")
def small(tiny) -> list[str]:
    return [*tiny, "--epochs=1", "--ood-images=all", "--seeds=1"]


def made(folder, *words):
    """Run a comparison without the pages of its runs, which nobody opens."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page, "write_run_report", lambda place: place / "report.html")
        assert main(["compare", *map(str, words), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory, three, small):
    """A finished comparison of two methods on each domain in turn: to read only."""
    words = ["--domains=leave-one-out", "--methods=lp,ft", "--set", "lp.cs=3"]
    return made(tmp_path_factory.mktemp("turns") / "all", three, *small, *words)


def test_every_domain_is_trained_on_and_tested_on_all_others(in_turn):
    rows = results(in_turn)["rows"]
    assert [(row["domain"], row["method"]) for row in rows] == [
        (domain, method) for domain in NAMES for method in ("lp", "ft")
    ]
    for row in rows:
        assert set(row["ood"]) == set(NAMES) - {row["domain"]}
        assert row["ood_accuracy"] == pytest.approx(sum(row["ood"].values()) / 2)


def test_classes_that_not_all_domains_have_are_left_out_of_each(in_turn):
    for row in results(in_turn)["rows"]:
        found = results((in_turn / row["config"]).parent)
        assert found["classes"] == ["dots", "stripes"]
        counts = found["data"]["counts"]
        assert counts.pop("train") + counts.pop("val") + counts.pop("test") == 16
        assert set(counts.values()) == {16}, "with --ood-images all nothing else is left out"


@pytest.mark.parametrize("number", [1, 4])
def test_every_row_has_a_config_that_fit_reproduces_it_from(in_turn, tmp_path, number):
    row = results(in_turn)["rows"][number]
    config = str(in_turn / row["config"])
    assert main(["fit", "--config", config, "--out", str(tmp_path / "run")]) == 0
    alone = results(tmp_path / "run")
    for key in ("method", "seed", "id_accuracy", "ood", "distortion"):
        assert alone[key] == row[key]


def test_results_hold_standings_pairs_and_each_domain_of_its_own(in_turn):
    found = results(in_turn)
    assert [line["method"] for line in found["summary"]] == ["lp", "ft"]
    assert sum(line["rank"] for line in found["summary"]) == pytest.approx(3)
    for line in found["summary"]:
        own = [row for row in found["rows"] if row["method"] == line["method"]]
        assert line["ood"]["mean"] == pytest.approx(sum(row["ood_accuracy"] for row in own) / 3)
        assert list(line["domains"]) == list(NAMES)
    pairs = {(pair["one"], pair["other"]): pair for pair in found["versus"]}
    assert pairs.keys() == {("lp", "ft"), ("ft", "lp")}
    assert pairs["lp", "ft"]["wins"] == pairs["ft", "lp"]["losses"]
    assert list(found["by_domain"]) == list(NAMES)
    cases = {(case["trained"], case["target"]) for case in found["selection"]["snd"]["cases"]}
    assert cases == {(one, other) for one in NAMES for other in NAMES if one != other}


def test_the_page_tells_ranks_pairs_and_runs_by_domain(in_turn):
    text = (in_turn / "report.html").read_text()
    for words in ("mean rank", "wins", "bootstrap intervals", "ft, sketch, seed 0"):
        assert words in text
    assert "over domains, seeds within them, and test images" in " ".join(text.split())
    assert "3 training domains" in text
    assert "On each test set" in text


def test_differences_are_told_on_each_test_set_and_count_test_images_in(in_turn):
    found = results(in_turn)
    assert [(one["trained"], one["tested"]) for one in found["tests"]] == [
        (one, other) for one in NAMES for other in NAMES if one != other
    ]
    for pair in found["versus"]:
        assert pair["images"] == 16, "the same subjects in every domain"
    for one in found["tests"]:
        ((other, gap),) = one["gaps"].items()
        assert gap["mean"] == pytest.approx(one["reached"][one["best"]] - one["reached"][other])


@pytest.fixture
def nothing_runs(monkeypatch):
    """Let runs be refused, and so compare what would be run."""
    cells = []

    def taken(own, **_):
        cells.extend(own)
        return [], []

    monkeypatch.setattr("adaptune.commands.compare.run_cells", taken)
    return cells


def test_some_domains_are_trained_on_in_turn_and_all_others_tested(
    three, small, tmp_path, told, nothing_runs
):
    words = [three, *small, "--domains=sketch, photo", "--methods=ft", "--out", tmp_path / "all"]
    assert "every run failed" in told("compare", *words)[2]
    assert [(cell.domain, set(cell.data.ood)) for cell in nothing_runs] == [
        ("photo", {"comic", "sketch"}),
        ("sketch", {"comic", "photo"}),
    ]


def replay(finished, accuracy, monkeypatch):
    """Let runs take no time: each is a copy of ``finished`` that went as ``accuracy`` says."""
    known = read_results(finished / "results.json")
    home = known.scores["id"]

    def scored(value):
        return replace(home, main=replace(home.main, value=value))

    def begin(run, method, options, data, setting, plan, *, name, config, **_):
        run.config.write_text(config)
        at_home = accuracy(run.folder, options)
        for file in ("metrics.jsonl", "report.html"):
            copy(finished / file, run.folder / file)
        values = {"id": at_home, **dict.fromkeys(data.ood, at_home / 2)}
        found = replace(
            known,
            method=name,
            seed=plan.seed,
            options=dict(options),
            config=str(run.config),
            scores={test: scored(value) for test, value in values.items()},
            label_free=dict.fromkeys(data.ood, known.label_free["sketch"]),
        )
        run.save_results(found)
        return found

    monkeypatch.setattr(grid, "experiment", begin)
    monkeypatch.setattr(page, "write_run_report", lambda folder: folder / "report.html")


@pytest.fixture
def hill(finished, monkeypatch):
    """Runs whose accuracy has a peak at the rate 0.01 for ft, and is level for lp-ft."""

    def accuracy(folder, options):
        if "lr" not in options:
            return 50.0
        falls = 60.0 - 2 * abs(RATES.index(options["lr"]) - 4)
        return falls if folder.name.startswith("ft") else 70.0

    replay(finished, accuracy, monkeypatch)


@pytest.mark.usefixtures("hill")
def test_a_sweep_has_eleven_rates_a_method_and_the_widths_of_their_plateaus(
    three, small, tmp_path, told
):
    photo, sketch = three / "photo", three / "sketch"
    words = [photo, f"--ood=sketch={sketch}", *small, "--methods=ft,lp,lp-ft", "--rates"]
    code, _, error = told("compare", *words, "--out", tmp_path / "all")
    assert code == 0, error
    found = results(tmp_path / "all")
    assert found["rates"].keys() == {"ft", "lp-ft"}
    for name, one in found["rates"].items():
        for curve in one["curves"].values():
            assert [rate for rate, _ in curve] == pytest.approx(RATES)
        rows = [row for row in found["rows"] if row["method"].startswith(f"{name} ")]
        assert len(rows) == 11
        rates = [yaml.safe_load((tmp_path / "all" / row["config"]).read_text()) for row in rows]
        assert [said["lr"] for said in rates] == pytest.approx(RATES)
        assert {said["method"] for said in rates} == {name}
    assert [row["method"] for row in found["rows"]].count("lp") == 1
    widths = {name: one["width"] for name, one in found["rates"].items()}
    assert widths["ft"] == pytest.approx({"id_accuracy": 1.5, "ood_accuracy": 3.0})
    assert widths["lp-ft"] == pytest.approx({"id_accuracy": 5.0, "ood_accuracy": 5.0})
    text = (tmp_path / "all" / "report.html").read_text()
    assert "Accuracy against the rate" in text
    assert "ft 1.5 (ID), 3.0 (OOD)" in text


@pytest.fixture
def broken(finished, monkeypatch):
    """Runs of which one comes to nothing."""

    def accuracy(folder, options):
        if folder.parts[-2:] in (("runs", "ft-1"), ("photo", "ft-0")):
            raise FloatingPointError("the term 'task' is nan")
        return 80.0

    replay(finished, accuracy, monkeypatch)


@pytest.mark.usefixtures("broken")
def test_a_run_that_fails_leaves_the_others_and_is_named_at_the_end(three, small, tmp_path, told):
    words = [three / "photo", f"--ood=sketch={three / 'sketch'}", *small, "--seeds=2"]
    code, _, error = told("compare", *words, "--methods=ft,lp", "--out", tmp_path / "all")
    assert code == 1
    assert "1 runs failed, the first of them ft, photo, seed 1: FloatingPointError" in error
    rows = results(tmp_path / "all")["rows"]
    assert [(row["method"], row["seed"]) for row in rows] == [("ft", 0), ("lp", 0), ("lp", 1)]
    assert (tmp_path / "all" / "report.html").exists()


@pytest.mark.usefixtures("broken")
def test_a_method_that_lacks_a_domain_is_shown_without_it(three, small, tmp_path, told):
    words = [three, *small, "--domains=leave-one-out", "--methods=lp,ft"]
    code, _, error = told("compare", *words, "--out", tmp_path / "all")
    assert code == 1
    assert "1 runs failed, the first of them ft, photo, seed 0" in error
    assert (tmp_path / "all" / "report.html").exists()


def test_a_score_that_an_epoch_lacks_does_not_break_the_page(three, small, tmp_path, told):
    words = [three / "photo", f"--ood=sketch={three / 'sketch'}", *small, "--methods=daft"]
    assert told("compare", *words, "--select=transfer-score", "--out", tmp_path / "all")[0] == 0


@pytest.fixture(scope="module")
def manifest(three, tmp_path_factory):
    """A table of two of the domains."""
    file = tmp_path_factory.mktemp("table") / "images.csv"
    rows = [
        f"{path},{path.parent.name},{name}"
        for name in ("sketch", "photo")
        for path in sorted((three / name).glob("*/*.png"))
    ]
    file.write_text("\n".join(["path,label,domain", *rows]))
    return file


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, manifest, small):
    """A finished comparison of tuned methods on the two domains of a table: to read only."""
    words = ["--domains=leave-one-out", "--methods=ft,lp,lp-ft", "--tune=2", "--untuned=ft"]
    words += ["--set", "lp.cs=3", "lp-ft.cs=3", "ft.lr=0.02"]
    return made(tmp_path_factory.mktemp("tuned") / "all", manifest, *small, *words)


def test_each_method_has_the_same_number_of_trials_on_each_domain(tuned):
    found = results(tuned)["tuned"]
    assert found.keys() == {"sketch", "photo"}
    for methods in found.values():
        assert methods.keys() == {"ft", "lp-ft"}, "lp has nothing to tune"
        assert [len(one["trials"]) for one in methods.values()] == [2, 2]
        assert methods["ft"]["trials"][0]["values"] == {"lr": 0.02}


def test_tuned_runs_take_what_their_own_domain_chose_and_untuned_ones_their_own_settings(tuned):
    found = results(tuned)
    names = ["ft", "ft (default)", "lp", "lp-ft"]
    assert [(row["domain"], row["method"]) for row in found["rows"]] == [
        (domain, name) for domain in ("sketch", "photo") for name in names
    ]
    for row in found["rows"]:
        options = results((tuned / row["config"]).parent)["options"]
        if row["method"] in ("ft", "lp-ft"):
            chosen = found["tuned"][row["domain"]][row["method"]]["values"]
            assert options["lr"] == chosen["lr"]
        elif row["method"] == "ft (default)":
            assert options["lr"] == 0.02


def test_the_page_tells_what_tuning_chose(tuned):
    text = (tuned / "report.html").read_text()
    assert "What tuning chose" in text
    assert "ft (default)" in text


def test_a_row_of_a_table_of_two_domains_is_reproduced_by_its_config(tuned, tmp_path):
    row = results(tuned)["rows"][7]
    assert (row["domain"], row["method"], list(row["ood"])) == ("photo", "lp-ft", ["sketch"])
    config = str(tuned / row["config"])
    assert main(["fit", "--config", config, "--out", str(tmp_path / "run")]) == 0
    alone = results(tmp_path / "run")
    assert (alone["id_accuracy"], alone["ood"]) == (row["id_accuracy"], row["ood"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["{three}/photo"],
            "photo/dots holds 8 images directly, in no class folder: expected",
        ),
        (["{table}", "--ood=more={three}/comic"], "takes one manifest that holds them all"),
        (["{three}/photo", "--ood=more={table}"], "takes one manifest that holds them all"),
        (["{three}", "--rates", "--tune=2"], "--rates tries every rate and --tune looks for one"),
        (["{three}", "--jobs=0"], "--jobs must be at least 1"),
        (["{three}", "--domains=photo,foto"], "no domain 'foto' to train on: there are comic, "),
        (["{three}", "--tune=-1"], "--tune must be at least 0"),
    ],
)
def test_what_cannot_be_compared_in_turn_is_explained(
    three, manifest, small, tmp_path, told, words, said
):
    words = [word.format(three=three, table=manifest) for word in words]
    turn = ["--domains=leave-one-out", "--out", tmp_path / "all"]
    code, _, error = told("compare", *turn, *words, *small)
    assert code == 1
    assert said in error
