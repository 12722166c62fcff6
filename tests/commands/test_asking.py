"""`fit` with a method that asks for labels: of people, by a table, or of an oracle."""

import csv
import json
import shutil

import pytest

RUN = ["--method=lftl", "--ask=6", "--rounds=2", "--epochs=3", "--batch-size=16"]
WAITS = 75


@pytest.fixture
def start(finished, sketches):
    return ["fit", f"--from={finished}", f"--target={sketches}", *RUN]


@pytest.fixture(scope="module")
def answered(finished, sketches, tmp_path_factory):
    """The folder of a run that an oracle answered: to read only."""
    from adaptune.commands import main

    folder = tmp_path_factory.mktemp("answered") / "run"
    words = ["fit", f"--from={finished}", f"--target={sketches}", *RUN, "--oracle"]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


def lines(folder) -> list[dict[str, str]]:
    with (folder / "questions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fill(folder, count=100, label=lambda path: path.split("/")[-2]) -> None:
    """Label the first ``count`` images that have none, by their folders."""
    rows = lines(folder)
    for row in [row for row in rows if not row["label"]][:count]:
        row["label"] = label(row["path"])
    with (folder / "questions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label"])
        writer.writeheader()
        writer.writerows(rows)


def weights(folder) -> bytes:
    return (folder / "last" / "network.safetensors").read_bytes()


def test_people_who_answer_round_by_round_get_the_run_of_an_oracle_to_the_bit(
    start, answered, sketches, tmp_path, told
):
    run = tmp_path / "my run"
    again = ["fit", "--resume", "--out", run]
    code, _, said = told(*start, "--out", run)
    assert code == WAITS
    assert "stopped: the method asks for 3 labels: write one of dots, rings, stripes" in said
    assert f"behind each path in {run / 'questions.csv'} ({run / 'questions.html'} shows" in said
    assert f"go on with: adaptune fit --resume --out '{run}'" in said
    assert [row["label"] for row in lines(run)] == [""] * 3
    assert all(row["path"].startswith(str(sketches)) for row in lines(run))
    page = (run / "questions.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert all(row["path"] in page for row in lines(run))

    fill(run, 2)
    code, _, said = told(*again)
    assert code == WAITS
    assert "1 of 3 labels are still missing" in said
    assert [bool(row["label"]) for row in lines(run)] == [True, True, False]
    assert (run / "questions.html").read_text().count("<figure>") == 1

    fill(run, label=lambda path: path.split("/")[-2].upper())
    before = lines(run)
    assert told(*again)[0] == WAITS
    assert lines(run)[:3] == before
    assert [row["label"] for row in lines(run)[3:]] == [""] * 3

    fill(run)
    code, _, said = told(*again)
    assert code == 0, said
    assert not (run / "questions.html").exists()
    assert weights(run) == weights(answered)
    found, expected = (json.loads((f / "results.json").read_text()) for f in (run, answered))
    assert found["asked"] == expected["asked"] == 6
    assert found["scores"] == expected["scores"]
    page = (run / "report.html").read_text()
    assert "6 labels asked for" in page

    assert told("predict", run, sketches, "--out", tmp_path / "all.csv")[0] == 0
    given = {row["path"] for row in lines(run)}
    with (tmp_path / "all.csv").open(newline="") as file:
        others = [row for row in csv.DictReader(file) if row["path"] not in given]
    right = sum(row["predicted"] == row["path"].split("/")[-2] for row in others)
    assert found["unasked"] == expected["unasked"]
    assert found["unasked"]["count"] == len(others) == 54
    assert found["unasked"]["accuracy"] == pytest.approx(100 * right / 54)
    for words in ("54 images whose labels nobody gave", f"{found['unasked']['before']:.1f}"):
        assert words in page
        assert words in said

    table = (run / "questions.csv").read_bytes()
    (run / "questions.csv").unlink()
    assert told(*again)[0] == 0, "a run that ended asks nothing"
    assert not (run / "questions.csv").exists()
    (run / "questions.csv").write_bytes(table)


def test_an_oracle_writes_no_table_and_a_method_that_asks_nothing_says_nothing(
    answered, finished_results
):
    assert not (answered / "questions.csv").exists()
    assert "oracle: true" in (answered / "config.yaml").read_text()
    assert "asked" not in finished_results
    assert "unasked" not in finished_results


def test_a_table_that_was_answered_before_the_run_is_taken(start, answered, tmp_path, told):
    run = tmp_path / "run"
    run.mkdir()
    rows = [f"{path},{path.parent.name}" for path in sorted(target_of(start).glob("*/*"))]
    table = "path,label\n" + "\n".join(rows)
    (run / "questions.csv").write_text(table)
    code, _, said = told(*start, "--out", run)
    assert code == 0, said
    assert (run / "questions.csv").read_text() == table
    assert weights(run) == weights(answered)


def target_of(words):
    from pathlib import Path

    return Path(next(word for word in words if "--target=" in word).partition("=")[2])


def test_a_wrong_label_is_refused_with_its_line_and_can_be_mended(start, tmp_path, told):
    run = tmp_path / "run"
    assert told(*start, "--out", run)[0] == WAITS
    table = run / "questions.csv"
    fill(run)
    good = table.read_text()
    first = good.splitlines()[1]
    path, label = first.split(",")
    table.write_text(good.replace(first, f"{path},ringos"))
    code, _, said = told("fit", "--resume", "--out", run)
    assert code == 1
    assert f"{table}, line 2: no class is called 'ringos': mend it (the classes are dots" in said
    assert "An image of none of them cannot be labelled: take it out of the target" in said
    other = {"dots": "rings"}.get(label, "dots")
    table.write_text(f"{good}{path},{other}\n")
    code, _, said = told("fit", "--resume", "--out", run)
    assert code == 1
    assert f"line 5: {path} is {other}, and {label} in a line before" in said
    table.write_text(good)
    code, _, said = told("fit", "--resume", "--out", run)
    assert code == WAITS
    assert "the method asks for 3 labels" in said, "those of the second round"


def test_an_oracle_without_labels_is_refused_before_anything_is_trained(
    finished, sketches, tmp_path, told
):
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in sorted(sketches.glob("*/*.png"))[:5]:
        shutil.copy(file, flat)
    words = ["fit", f"--from={finished}", *RUN, "--oracle", "--out", tmp_path / "run"]
    code, _, said = told(*words, f"--target={flat}")
    assert code == 1
    assert "5 of the 5 images of flat have none among the classes (dots, rings, stripes)" in said
    own = tmp_path / "own"
    shutil.copytree(sketches, own)
    (own / "dots").rename(own / "emus")
    code, _, said = told(*words, f"--target={own}")
    assert code == 1
    assert "20 of the 60 images of own have none among the classes" in said
    assert told(*words, f"--target={own}", "--open-set")[0] == 1, "its answers are classes too"
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert "there is none: pass --target DIR" in told(*words)[2]


def test_tars_are_asked_about_and_shown_too(finished, sketches, tmp_path, told):
    import tarfile

    target = tmp_path / "target.tar"
    with tarfile.open(target, "w") as shard:
        for file in sorted(sketches.glob("*/*.png")):
            (tmp_path / "label.cls").write_text(file.parent.name)
            shard.add(file, f"{file.stem}.png")
            shard.add(tmp_path / "label.cls", f"{file.stem}.cls")
    run = tmp_path / "run"
    words = ["fit", f"--from={finished}", f"--target={target}", *RUN, "--out", run]
    assert told(*words)[0] == WAITS
    assert all(row["path"].startswith(f"{target}/") for row in lines(run))
    assert (run / "questions.html").read_text().count("data:image/jpeg;base64,") == 3


def test_methods_that_ask_are_compared_with_an_oracle_alone(finished, sketches, tmp_path, told):
    words = ["compare", f"--from={finished}", f"--target={sketches}", "--methods=lftl"]
    words += ["--set", "lftl.ask=2", "lftl.rounds=1", "--epochs=1", "--batch-size=16", "--seeds=2"]
    code, _, said = told(*words, "--out", tmp_path / "nobody")
    assert code == 1
    assert "2 images of the target need labels and nobody gives them: pass --oracle" in said
    code, _, said = told(*words, "--oracle", "--out", tmp_path / "oracle")
    assert code == 0, said
    for file in (tmp_path / "oracle").glob("**/results.json"):
        assert json.loads(file.read_text()).get("asked", 2) == 2
