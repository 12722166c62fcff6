"""`compare --advise` looks at data and network, names methods, and runs nothing."""

import json

import pytest

from adaptune.networks.network import Network


def advised(told, *words):
    code, out, error = told("compare", *words, "--advise", "--json")
    assert code == 0, error
    found = json.loads(out)
    for line in found["commands"]:
        assert line in error
    return found


def test_labelled_images_alone_are_for_the_methods_of_a_comparison(photos, tiny, told, at_home):
    found = advised(told, photos, *tiny, "--seeds=2")
    assert found["methods"] == ["ft", "lp-ft", "daft"]
    (command,) = found["commands"]
    assert command.startswith(f"adaptune compare {photos} --backbone=test_efficientnet")
    assert "--seeds=2" in command
    assert command.endswith("--methods=ft,lp-ft,daft --out=comparison")
    assert not list(at_home.iterdir()), "nothing should be written"


def test_a_target_asks_for_a_run_and_what_adapts_it(photos, sketches, tiny, told):
    found = advised(told, photos, f"--target={sketches}", *tiny, "--jobs=2", "--out=all")
    assert found["methods"] == ["adabn", "shot"]
    first, second = found["commands"]
    assert first.startswith(f"adaptune fit {photos} --backbone")
    assert "--jobs" not in first
    assert "--target" not in first
    assert first.endswith("--out=run")
    assert f"--target={sketches}" in second
    assert str(photos) not in second
    assert "--out=all" in second
    assert second.endswith("--from=run --methods=adabn,shot")


def test_several_domains_and_a_network_without_batch_norms_are_seen(photos, sketches, told):
    network = ["--backbone=test_vit", "--weights=none"]
    found = advised(told, photos, f"--source=sketch={sketches}", *network, "--ood-images=all")
    assert found["methods"] == ["ft", "drm"]


@pytest.mark.parametrize(
    ("more", "methods"),
    [([], ["alpha-bn", "tent"]), (["--target"], ["adabn", "shot"])],
)
def test_a_run_alone_is_for_streams_and_with_a_target_for_what_adapts_it(
    tmp_path, sketches, told, more, methods
):
    net = Network.from_timm("test_efficientnet", ["dots", "rings", "stripes"], size=32)
    net.save(tmp_path / "saved")
    words = [f"--from={tmp_path / 'saved'}", *(f"{one}={sketches}" for one in more)]
    found = advised(told, *words)
    assert found["methods"] == methods
    assert str(tmp_path / "saved") in found["commands"][0]


def test_what_cannot_be_opened_is_explained(told, tmp_path):
    code, _, error = told("compare", tmp_path / "nothing", "--advise")
    assert code == 1
    assert "nothing" in error


def test_masks_which_no_result_is_of_get_no_advice(photos, tiny, told):
    code, _, error = told("compare", photos, *tiny, "--task=segmentation", "--advise")
    assert code == 1
    assert "stands on results of classification, and this is segmentation" in error
    assert "adaptune methods --task segmentation" in error
