"""Numbers that cannot be are refused, and room is made for results, before any work is done."""

import csv
import re

import pytest

NOT_COUNTS = ["0", "-3", "nan", ".nan", ".inf", "1e99", "1.5", "99999999999999999999"]
NOT_SHARES = ["-0.1", "1", "nan", ".nan", ".inf", "1e99"]
TRAINING = {
    "--epochs": NOT_COUNTS[1:],
    "--batch-size": NOT_COUNTS,
    "--accumulate": NOT_COUNTS,
    "--workers": ["-1", "nan", "1e99", "100000"],
    "--seed": ["nan", "1e99", "99999999999999999999"],
    "--momentum": NOT_SHARES,
    "--warmup": NOT_SHARES,
    "--average-decay": NOT_SHARES,
    "--average-from": ["-0.1", "1.1", "nan", ".nan", ".inf"],
    "--interpolate": ["-0.1", "1.1", "nan", ".nan", ".inf"],
    "--weight-decay": ["-1", "nan", ".nan", ".inf"],
    "--clip": ["0", "-1", "nan", ".nan", ".inf"],
    "--checkpoint-minutes": ["-1", "nan", ".nan", ".inf"],
    "--image-size": NOT_COUNTS,
    "--crop": ["0", "-1", "2", "nan", ".nan", ".inf"],
    "--val-share": NOT_SHARES,
    "--test-share": NOT_SHARES,
    "--devices": NOT_COUNTS,
    "--lr": ["-0.1", "nan", ".nan", ".inf"],
}
GIVEN = {
    "fit": (["fit", "PHOTOS", "--method=ft", "--out=new"], TRAINING),
    "search": (
        ["search", "PHOTOS", "--method=ft", "--out=new"],
        {k: v for k, v in TRAINING.items() if k != "--devices"}
        | {"--budget": NOT_COUNTS, "--jobs": NOT_COUNTS},
    ),
    "compare": (
        ["compare", "PHOTOS", "--methods=ft", "--out=new"],
        {k: v for k, v in TRAINING.items() if k not in ("--devices", "--seed", "--lr")}
        | {"--seeds": NOT_COUNTS, "--jobs": NOT_COUNTS, "--tune": ["-1", "nan", "1e99"]},
    ),
    "demo": (
        ["demo", "--out=new"],
        {"--seeds": NOT_COUNTS, "--epochs": NOT_COUNTS, "--jobs": NOT_COUNTS},
    ),
    "convert": (
        ["convert", "PHOTOS", "--out=new/net.safetensors"],
        {k: TRAINING[k] for k in ("--batch-size", "--workers", "--image-size", "--crop")}
        | {"--val-share": NOT_SHARES, "--tolerance": ["-1", "nan", ".nan", ".inf"]},
    ),
    "doctor": (
        ["doctor", "PHOTOS"],
        {k: TRAINING[k] for k in ("--batch-size", "--workers", "--image-size", "--val-share")},
    ),
    "predict": (
        ["predict", "RUN", "PHOTOS", "--out=new/labels.csv"],
        {"--batch-size": NOT_COUNTS},
    ),
    "evaluate": (
        ["evaluate", "RUN"],
        {"--batch-size": NOT_COUNTS, "--unknown-above": ["0", "1", "-1", "nan", ".nan", ".inf"]},
    ),
    "stream": (
        ["stream", "RUN", "PHOTOS", "--method=tent", "--out=new/labels.csv"],
        {k: TRAINING[k] for k in ("--batch-size", "--workers", "--clip", "--momentum", "--lr")},
    ),
}
CASES = [(name, option) for name, (_, options) in GIVEN.items() for option in options]


@pytest.mark.parametrize(("command", "option"), CASES)
def test_a_number_out_of_range_is_one_sentence_and_nothing_is_written(
    command, option, photos, finished, at_home, told
):
    words, options = GIVEN[command]
    places = {"PHOTOS": photos, "RUN": finished}
    words = [places.get(word, word) for word in words]
    for value in options[option]:
        code, out, error = told(*words, f"{option}={value}")
        assert code in (1, 2), (value, error)
        assert re.search(f"{option}|{option[2:].replace('-', '.')}|shares|workers", error), value
        assert "Traceback" not in error
        assert "This is a bug" not in error
        assert not out
        assert not list(at_home.iterdir()), value


@pytest.mark.parametrize("value", [".nan", "-1", "0"])
def test_numbers_of_a_config_file_are_held_to_the_same(photos, at_home, told, value):
    (at_home / "own.yaml").write_text(f"batch_size: 8\nclip: {value}\n")
    code, _, error = told("fit", photos, "--config=own.yaml", "--out=new")
    assert code == 1
    assert "--clip must be above 0: got" in error
    assert not (at_home / "new").exists()


def test_settings_of_single_methods_are_held_to_the_same(photos, at_home, told):
    code, _, error = told("compare", photos, "--set", "ft.lr=-1", "--methods=ft", "--out=new")
    assert code == 1
    assert "--lr must be at least 0: got -1" in error
    assert not (at_home / "new").exists()


@pytest.mark.parametrize("command", ["predict", "stream"])
def test_folders_of_an_output_file_are_made(command, finished, photos, at_home, told):
    code, _, error = told(command, finished, photos, "--out=no/such/labels.csv")
    assert code == 0, error
    with (at_home / "no/such/labels.csv").open(newline="") as lines:
        assert len(list(csv.DictReader(lines))) == 60


@pytest.mark.parametrize("command", ["predict", "stream", "convert"])
@pytest.mark.parametrize("out", ["taken", "file/labels.csv", ""])
def test_an_output_that_cannot_be_is_one_sentence(command, out, finished, photos, at_home, told):
    (at_home / "taken").mkdir()
    (at_home / "file").write_text("kept")
    words = [photos] if command == "convert" else [finished, photos]
    code, _, error = told(command, *words, f"--out={out}")
    assert code in (1, 2)
    assert "--out" in error
    assert "Errno" not in error
    assert (at_home / "file").read_text() == "kept"
    assert sorted(path.name for path in at_home.iterdir()) == ["file", "taken"]


@pytest.mark.parametrize("command", ["fit", "search", "compare"])
def test_no_folder_to_write_into_is_refused(command, photos, at_home, told):
    assert told(command, photos, "--out=")[0] == 2
    assert not list(at_home.iterdir())
