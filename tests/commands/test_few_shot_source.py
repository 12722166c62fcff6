"""A finished run goes on by a few labelled images of another domain: its head first, then all."""

import json

import torch

from adaptune.networks.network import Network


def tensors(folder) -> dict[str, dict[str, torch.Tensor]]:
    net = Network.load(folder / "best")
    return {"body": net.body.state_dict(), "head": net.head.state_dict()}


def equal(one, other) -> bool:
    return all(torch.equal(one[key], other[key]) for key in other)


def test_a_run_goes_on_by_three_images_a_class_head_first_then_all(
    finished, sketches, tmp_path, told
):
    adam = ["--method", "sam", "--optimizer", "adamw", "--schedule", "constant"]
    words = [*adam, "--shots", 3, "--batch-size", 32, "--epochs", 2, "--select", "last"]
    probe, tuned = tmp_path / "probe", tmp_path / "tuned"
    begun = ["fit", sketches, "--from", finished, "--part", "head", "--lr", 0.01]
    code, _, error = told(*begun, *words, "--out", probe)
    assert code == 0, error
    code, _, error = told("fit", sketches, "--from", probe, "--lr", 1e-3, *words, "--out", tuned)
    assert code == 0, error
    assert "at most 3 a class" in error
    for folder in (probe, tuned):
        counts = json.loads((folder / "results.json").read_text())["data"]["counts"]
        assert counts["train"] == 9
        assert counts["test"] > 0
    source, first, then = map(tensors, (finished, probe, tuned))
    assert equal(first["body"], source["body"])
    assert not equal(first["head"], source["head"])
    assert not equal(then["body"], first["body"])
    assert Network.load(tuned / "best").batchnorm == "train"
