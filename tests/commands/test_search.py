"""`search` writes a config that `fit` takes, having read no test image."""

import json

import pytest
import yaml

from adaptune.commands import main
from adaptune.commands.search import BODY_RATES, HEAD_RATES
from adaptune.data.inputs import image
from adaptune.data.opening import open_domains
from adaptune.methods import METHODS


@pytest.fixture(scope="module")
def words(photos, sketches, tiny) -> list[str]:
    return ["search", str(photos), f"--ood=sketch={sketches}", *tiny, "--epochs=1"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory, words):
    """A finished search of three trials over two hyper-parameters, and the files it read."""
    folder = tmp_path_factory.mktemp("searched") / "all"
    read, seen = image.read_image, set()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(image, "read_image", lambda *args: seen.add(args[0]) or read(*args))
        over = ["--method=ft", "--over", "lr", "weight_decay", "--budget=3", "--lr=0.05"]
        assert main([*words, *over, "--out", str(folder)]) == 0
    return folder, seen


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_only_training_and_validation_images_are_read(searched, photos, sketches):
    data = open_domains(photos, {"sketch": sketches})
    train, val = (set(data.sets[split].paths) for split in ("train", "val"))
    assert val < searched[1] <= train | val
    assert not searched[1] & {*data.paths("id"), *data.paths("sketch")}


def test_what_was_asked_for_is_searched_from_where_it_was_asked_to_begin(searched):
    found = results(searched[0])
    assert len(found["trials"]) == 3
    assert found["trials"][0]["values"] == {"lr": 0.05, "weight_decay": 1e-6}
    for trial in found["trials"]:
        assert trial["values"].keys() == {"lr", "weight_decay"}
        assert 1e-3 <= trial["values"]["lr"] <= 1
        assert 1e-6 <= trial["values"]["weight_decay"] <= 1e-2
    assert found["best"] in found["trials"]
    assert found["values"] == found["best"]["values"]


def test_the_config_is_one_that_fit_takes_and_its_run_scores_as_the_trial_did(searched, tmp_path):
    folder, _ = searched
    config = folder / "config.yaml"
    best = results(folder)["best"]
    said = yaml.safe_load(config.read_text())
    assert {key: said[key] for key in best["values"]} == best["values"]
    assert main(["fit", "--config", str(config), "--out", str(tmp_path / "run")]) == 0
    found = results(tmp_path / "run")
    assert found["method"] == "ft"
    assert found["options"]["lr"] == best["values"]["lr"]
    assert found["val_accuracy"] == pytest.approx(best["accuracy"])
    assert found["ood"].keys() == {"sketch"}


def test_a_search_that_is_run_again_goes_on_and_json_says_what_it_found(
    words, tmp_path, told, searched
):
    again = ["--method=lp-ft", "--cs=3", "--out", tmp_path / "all"]
    assert told(*words, *again, "--budget=1")[0] == 0
    (first,) = results(tmp_path / "all")["trials"]
    code, out, said = told(*words, *again, "--budget=2", "--json")
    assert code == 0
    assert json.loads(out) == results(tmp_path / "all")
    assert [trial["number"] for trial in results(tmp_path / "all")["trials"]] == [0, 1]
    assert results(tmp_path / "all")["trials"][0] == first
    assert "adaptune fit --config" in said


def test_the_papers_search_is_two_grids_and_its_config_the_published_method(words, tmp_path, told):
    folder = tmp_path / "paper"
    assert told(*words, "--paper", "--out", folder)[0] == 0
    found = results(folder)
    body, head = found["trials"][:8], found["trials"][8:]
    assert sorted(trial["values"]["lr"] for trial in body) == sorted(BODY_RATES)
    assert sorted(trial["values"]["head_lr"] for trial in head) == sorted(HEAD_RATES)
    assert (len(body), len(head)) == (8, 5)
    assert found["values"]["lr"] in BODY_RATES
    chosen = max(trial["accuracy"] for trial in body)
    rates = [trial["values"]["lr"] for trial in body if trial["accuracy"] == chosen]
    assert found["values"]["lr"] in rates
    said = yaml.safe_load((folder / "config.yaml").read_text())
    assert (said["method"], said["head"], said["batchnorm"]) == ("daft", "published", "converted")
    assert (said["lr"], said["head_lr"]) == (
        found["values"]["lr"],
        found["best"]["values"]["head_lr"],
    )
    config = ["--config", folder / "config.yaml"]
    assert told("fit", *config, "--out", tmp_path / "run")[0] == 0
    assert results(tmp_path / "run")["val_accuracy"] == pytest.approx(found["best"]["accuracy"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--budget=0"], "--budget must be at least 1"),
        (["--jobs=0"], "--jobs must be at least 1"),
        (
            ["--over", "rate"],
            "daft cannot search 'rate': there are weight_decay, layer_decay, lr, k",
        ),
        (["--method=lp"], "lp has no hyper-parameter with a range to search: its options are cs"),
        (["--method=ft", "--paper"], "--paper is DAFT's search, and --method is ft"),
        (["--ood=sketch"], "expected NAME=DIR"),
        (["--method=kl-dp"], "KLDP learns from another network and got none: pass --teacher RUN"),
        (["--method=ft", "--teacher=run"], "FineTune learns from no other network: leave out"),
        (["--method=shot"], "shot goes on from a finished run: adaptune compare DATA --from RUN"),
    ],
)
def test_what_cannot_be_searched_is_explained(words, tmp_path, told, wrong, said):
    code, out, error = told(*words, *wrong, "--out", tmp_path / "all")
    assert code == 1
    assert not out
    assert said in error
    assert not (tmp_path / "all" / "config.yaml").exists()


def test_methods_that_a_search_cannot_train_are_not_among_its_choices(told):
    code, out, _ = told("search", "--help")
    assert code == 0
    listed = out.partition("--method {")[2].partition("}")[0]
    for name, method in METHODS.items():
        trains = method.needs.labeled and method.setting != "test-time"
        assert (name in listed.split(",")) == trains


def test_methods_that_learn_from_teachers_are_searched_with_them_and_said_to_need_them(
    words, finished, tmp_path, told
):
    assert "kl-dp, " in told("search", "--help")[1].partition("what to tune; ")[2]
    out = tmp_path / "all"
    own = ["--method=kl-dp", "--teacher", finished, "--budget=1", "--out", out]
    code, _, error = told(*words, *own)
    assert code == 0, error
    said = yaml.safe_load((out / "config.yaml").read_text())
    assert said["teacher"] == [str(finished)]


def test_another_search_in_the_same_folder_asks_for_a_name(words, searched, told):
    code, _, error = told(*words, "--method=ft", "--seed=1", "--budget=3", "--out", searched[0])
    assert code == 1
    assert "was begun with other settings: give --study another name" in error
