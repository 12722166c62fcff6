"""Corruptions are the rows' own and grow with severity; their mean error follows its formula."""

import pickle

import pytest
import torch

from adaptune.data.domains import Loading
from adaptune.networks.network import Preprocess
from benchmarks.sources import corruptions
from benchmarks.sources.corruptions import CORRUPTIONS, SEVERITIES, mean_corruption_error
from benchmarks.sources.rows import seeded

SIDE = 32


@pytest.fixture(scope="module")
def data(two_domains, tmp_path_factory):
    openers = corruptions.open_source(
        two_domains / "photo", tmp_path_factory.mktemp("w"), side=SIDE
    )
    assert list(openers) == ["photo"]
    return openers["photo"](Loading(batch_size=8))


def pictures(rows) -> torch.Tensor:
    return torch.stack([rows.picture(row) for row in range(len(rows))]).float()


def test_there_are_ten_families_in_five_severities(data):
    assert set(SEVERITIES) == set(CORRUPTIONS)
    assert len(SEVERITIES) == 10
    assert list(data.ood) == [f"{family}-{s}" for family in SEVERITIES for s in range(1, 6)]


@pytest.mark.parametrize("family", SEVERITIES)
def test_the_distance_to_the_clean_image_grows_with_severity(data, family):
    clean = pictures(data.sets["test"])
    distances = [
        float((pictures(data.ood[f"{family}-{severity}"]) - clean).square().mean())
        for severity in range(1, 6)
    ]
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert len(set(distances)) == 5


def test_a_corrupted_image_is_the_same_at_every_visit_and_in_every_process(data):
    again = pickle.loads(pickle.dumps(data))
    for name, rows in data.ood.items():
        torch.manual_seed(1)
        first = rows.picture(1)
        torch.manual_seed(2)
        assert torch.equal(rows.picture(1), first), name
        assert torch.equal(again.ood[name].picture(1), first), name


def test_images_differ_in_what_is_random_about_them(data):
    grey = torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)
    rows = data.ood["gaussian-noise-3"]
    noise = []
    for row in range(2):
        with seeded(rows.rows[row]):
            noise.append(rows.change(grey))
    assert not torch.equal(*noise)


def test_all_images_also_clean_ones_are_brought_to_one_size_first(data):
    for rows in (*data.sets.values(), data.ood["fog-1"], data.ood["pixelate-5"]):
        assert rows.picture(0).shape == (3, SIDE, SIDE)
        assert rows.picture(0).dtype == torch.uint8
    seen = data.with_input(Preprocess(size=16))
    assert next(iter(seen.tests()["jpeg-5"])).x.shape[1:] == (3, 16, 16)


def test_corrupted_images_are_the_held_out_ones_under_their_labels(data):
    trained = {path for split in ("train", "val") for path in data.sets[split].paths}
    for name, rows in data.ood.items():
        assert rows.paths == data.sets["test"].paths == data.paths(name)
        assert [data.classes[label] for label in rows.labels] == [p.parent.name for p in rows.paths]
        assert not trained & set(rows.paths)


def test_without_a_folder_the_demos_emoji_are_corrupted(tmp_path, monkeypatch, photos, sketches):
    asked = []

    def build(folder):
        asked.append(folder)
        return {"twemoji": photos, "openmoji": sketches}

    monkeypatch.setattr(corruptions, "build_demo", build)
    (opener,) = corruptions.open_source(None, tmp_path).values()
    assert asked == [tmp_path / "emoji"]
    assert opener(Loading()).sets["test"].paths[0].parents[1] == photos


@pytest.mark.parametrize("degrees", range(0, 180, 30))
def test_a_motion_keeps_the_brightness_and_has_the_length_asked_for(degrees):
    kernel = corruptions.line(9.0, degrees / 180 * torch.pi)
    assert kernel.sum() == pytest.approx(1.0)
    assert kernel.shape[0] % 2 == 1
    places = torch.arange(len(kernel)) - len(kernel) // 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    spread = (kernel * (x**2 + y**2)).sum().sqrt()
    assert 8 / 12**0.5 * 0.9 < spread < 8 / 12**0.5 * 1.3
    torch.testing.assert_close(kernel, kernel.flip(0, 1))


def test_blurs_are_as_strong_relative_to_the_image_at_any_size():
    small = torch.zeros(3, 32, 32)
    small[:, :, :16] = 1.0
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    ramps = [corruptions.gaussian_blur(x, 3.0)[0, x.shape[1] // 2] for x in (small, large)]
    halved = ramps[1].view(-1, 2).mean(1)
    torch.testing.assert_close(ramps[0], halved, atol=0.02, rtol=0)


def test_the_mean_corruption_error_follows_its_formula():
    errors = {"fog-1": 10.0, "fog-2": 30.0, "jpeg-1": 5.0, "jpeg-2": 5.0}
    baseline = {"fog-1": 20.0, "fog-2": 60.0, "jpeg-1": 4.0, "jpeg-2": 16.0}
    # fog: 40 / 80, jpeg: 10 / 20; ratios of sums, not means of ratios
    assert mean_corruption_error(errors, baseline) == pytest.approx(50.0)
    errors["jpeg-2"] = 25.0
    assert mean_corruption_error(errors, baseline) == pytest.approx(100 * (0.5 + 1.5) / 2)
    assert mean_corruption_error(baseline, baseline) == pytest.approx(100.0)


def test_a_baseline_of_other_sets_or_without_errors_is_refused():
    with pytest.raises(ValueError, match="differ in fog-2"):
        mean_corruption_error({"fog-1": 1.0}, {"fog-1": 1.0, "fog-2": 1.0})
    with pytest.raises(ValueError, match="no error on fog"):
        mean_corruption_error({"fog-1": 1.0}, {"fog-1": 0.0})
    with pytest.raises(ValueError, match="at least one"):
        mean_corruption_error({}, {})
