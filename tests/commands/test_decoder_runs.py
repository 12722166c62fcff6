"""Runs of networks with a decoder: trained, gone on with, predicted, started from."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scenes import NAMES, draw_scenes

from adaptune.results.run import read_results
from adaptune.runtime.files import read_lines

pytest.importorskip("segmentation_models_pytorch")


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("places")
    draw_scenes(folder / "city", 40)
    (folder / "names.txt").write_text("\n".join(NAMES))
    return [
        *(str(folder / "city"), "--task=segmentation", f"--label-table={folder}/names.txt"),
        *(
            "--backbone=smp/linknet/test_resnet",
            "--weights=none",
            "--image-size=32",
            "--batch-size=8",
        ),
    ]


def test_a_decoder_is_trained_gone_on_with_predicted_and_started_from(words, tmp_path, told):
    run = tmp_path / "run"
    given = ["--method=daft", "--head=published", "--head-lr=0.1"]
    code, _, error = told("fit", *words, *given, "--epochs=1", f"--out={run}")
    assert code == 0, error
    code, _, error = told("fit", "--resume", "--epochs=2", f"--out={run}")
    assert code == 0, error
    lines = read_lines(run / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert lines[-1]["task"] < lines[1]["task"]

    code, _, error = told("predict", run, f"{words[0]}/images", f"--out={tmp_path / 'masks'}")
    assert code == 0, error
    mask = np.array(Image.open(next((tmp_path / "masks").rglob("*.png"))))
    assert mask.shape == (48, 48)
    assert mask.max() < len(NAMES)

    again = [*words[:3], f"--from={run}", "--epochs=1", "--batch-size=8"]
    code, _, error = told("fit", *again, f"--out={tmp_path / 'again'}")  # DAFT as it comes
    assert code == 0, error
    notes = read_results(tmp_path / "again/results.json").notes
    assert notes["head"]["curvature"] > 0


def test_what_reads_pretrained_features_refuses_a_random_decoder_before_anything_is_written(
    words, tmp_path, told
):
    for method, said in (("daft", "give --head published"), ("lp", "take --method ft or daft")):
        code, _, error = told("fit", *words, f"--method={method}", f"--out={tmp_path / method}")
        assert code == 1
        assert "the decoder of linknet/test_resnet begins at random" in error
        assert said in error
        assert not (tmp_path / method / "best").exists()
