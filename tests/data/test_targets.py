"""A target comes without labels, several sources in equal parts; one source is as it ever was."""

import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset

from adaptune.data.datasets import from_datasets
from adaptune.data.domains import Loading
from adaptune.data.listing import Shares
from adaptune.data.loading import shuffled_keys
from adaptune.data.opening import open_domains, other_domains
from adaptune.networks.network import Preprocess
from adaptune.types import Needs

BOTH = Needs(unlabeled=True)
ALONE = Needs(labeled=False, unlabeled=True)
LOOK = Preprocess(size=8)

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded", "ignore:This DataLoader will create"
)


def opened(folder, *, augment="crop", shares=None, batch_size=8, workers=0, seed=0, **others):
    loading = Loading(batch_size=batch_size, workers=workers, seed=seed)
    return open_domains(folder, loading=loading, shares=shares, **others).with_input(LOOK, augment)


def tensors(data, needs, epoch=1, start=0):
    found = []
    for batch in data.batches(needs, epoch, start):
        one, other = batch.labeled, batch.unlabeled
        found += [one.x, one.y, one.index, one.domain, other.x, other.index, other.domain]
        found += other.views
    return found


def same(a, b) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


@pytest.fixture
def flat(sketches, tmp_path):
    """The sketches in one folder, without labels."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for path in sketches.glob("*/*.png"):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("views", [0, 2])
def test_no_label_of_the_target_reaches_a_method(photos, sketches, views):
    data = opened(photos, target=sketches)
    batches = list(data.batches(Needs(unlabeled=True, views=views), 0))
    for rows in (*data.unlabeled(), *(batch.unlabeled for batch in batches)):
        assert not hasattr(rows, "y")
    for rows in (data.target.rows, data.target.augmented):
        assert set(rows.labels) == {0}, "what is served does not know the labels itself"


def test_all_images_of_the_target_are_served_in_order_and_tested_by_the_rule_of_others(
    photos, sketches
):
    data, plain = opened(photos, target=sketches), opened(photos, ood={"sketch": sketches})
    rows = list(data.unlabeled())
    count = len(list(sketches.glob("*/*")))
    assert torch.cat([one.index for one in rows]).tolist() == list(range(count))
    assert set(torch.cat([one.domain for one in rows]).tolist()) == {1}
    assert list(data.ood) == ["sketch"]
    assert data.paths("sketch") == plain.paths("sketch")
    for one, other in zip(data.tests()["sketch"], plain.tests()["sketch"], strict=True):
        assert same((one.x, one.y, one.domain), (other.x, other.y, other.domain))


def test_a_shuffled_target_has_every_image_once_in_the_same_order_each_time(photos, sketches):
    data = opened(photos, target=sketches)
    one, other = (torch.cat([r.index for r in data.unlabeled(shuffled=True)]) for _ in range(2))
    assert torch.equal(one, other)
    assert one.tolist() != sorted(one.tolist()) == list(range(len(data.target)))


def test_a_folder_of_images_is_a_target_that_is_not_tested_and_that_is_said(photos, flat):
    data = opened(photos, target=f"wild={flat}")
    assert len(data.target) == len(list(flat.iterdir()))
    assert data.ood == {}
    assert "wild: has no labels, so it is adapted to, not tested" in data.notes
    assert data.file(1, 0) == str(sorted(flat.iterdir())[0])


def test_a_manifest_names_further_sources_and_the_target(photos, sketches, tmp_path):
    lines = ["path,label,domain"]
    for name, folder in {"a": photos, "b": sketches, "c": photos, "d": sketches}.items():
        lines += [f"{path},{path.parent.name},{name}" for path in sorted(folder.glob("*/*"))]
    table = tmp_path / "all.csv"
    table.write_text("\n".join(lines))
    data = opened(table, domain="c", sources=["b"], target="d")
    assert data.domains == 2
    assert data.target.name == "d"
    assert sorted(data.ood) == ["a", "d"]
    assert [set(rows.domain.tolist()) for rows in data.tests()["a"]][0] == {3}
    assert [set(rows.domain.tolist()) for rows in data.tests()["d"]][0] == {2}
    assert {path.parents[1] for path in data.sets["train"].paths[: data.parts["train"][0]]} == {
        photos
    }


def test_without_a_target_a_batch_has_no_unlabelled_rows_and_one_source_is_as_it_ever_was(photos):
    data = opened(photos)
    order = shuffled_keys(len(data.augmented), 0, 3)
    for number, batch in enumerate(data.batches(Needs(), 3)):
        keys = order[number * 8 : number * 8 + 8]
        assert torch.equal(batch.labeled.x, torch.stack([data.augmented[key][0] for key in keys]))
        assert len(batch.unlabeled) == 0
    assert number + 1 == data.steps(Needs()) == len(data.augmented) // 8


def test_a_method_that_sees_no_labels_gets_none_and_no_source_file_is_opened(photos, sketches):
    data = opened(photos, target=sketches)
    gone = [replace(e, path=e.path.with_name("gone.png")) for e in data.augmented.examples]
    data.augmented.examples = gone
    batches = list(data.batches(ALONE, 0))
    assert len(batches) == data.steps(ALONE) == len(data.target) // 8
    assert {len(batch.labeled) for batch in batches} == {0}
    assert {len(batch.unlabeled) for batch in batches} == {8}
    rows = [row for batch in batches for row in batch.unlabeled.index.tolist()]
    assert len(set(rows)) == len(rows)
    assert not data.problems


@pytest.mark.parametrize("longer", ["source", "target"])
def test_the_longer_side_is_seen_once_and_the_shorter_begins_again_in_a_new_order(longer):
    sizes = {"source": 30, "target": 30} | {longer: 100}
    data = from_datasets(
        numbered(sizes["source"]),
        numbered(3),
        numbered(3),
        classes="abc",
        target=numbered(sizes["target"]),
        loading=Loading(batch_size=10),
    )
    assert data.steps(BOTH) == 10
    batches = list(data.batches(BOTH, 0))
    seen = {
        "source": [row for batch in batches for row in batch.labeled.index.tolist()],
        "target": [row for batch in batches for row in batch.unlabeled.index.tolist()],
    }
    assert sorted(seen[longer]) == list(range(100))
    short = seen["target" if longer == "source" else "source"]
    rounds = [short[at : at + 30] for at in (0, 30, 60)]
    assert all(sorted(one) == list(range(30)) for one in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def numbered(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(count * 2.0).view(count, 2), torch.arange(count) % 3)


def test_the_target_has_its_own_order_by_seed_and_epoch(photos, sketches):
    def order(seed=0, epoch=0):
        data = opened(photos, target=sketches, seed=seed)
        return [tuple(b.unlabeled.index.tolist()) for b in data.batches(BOTH, epoch)]

    assert order() == order()
    assert len({tuple(one) for one in (order(), order(seed=1), order(epoch=1))}) == 3
    data = opened(photos, target=photos)
    (batch, *_) = data.batches(BOTH, 0)
    assert batch.labeled.index.tolist() != batch.unlabeled.index.tolist()


def test_views_are_augmented_independently_and_the_first_image_is_that_without_views(
    photos, sketches
):
    data = opened(photos, target=sketches)
    (plain, *_), (viewed, *_) = (
        list(data.batches(Needs(unlabeled=True, views=views), 0)) for views in (0, 2)
    )
    assert torch.equal(plain.unlabeled.x, viewed.unlabeled.x)
    assert len(viewed.unlabeled.views) == 2
    one, other = viewed.unlabeled.views
    assert one.shape == other.shape == plain.unlabeled.x.shape
    for pair in ((one, other), (one, plain.unlabeled.x), (other, plain.unlabeled.x)):
        assert not torch.equal(*pair)


@pytest.mark.parametrize("needs", [BOTH, ALONE, Needs(unlabeled=True, views=1)])
def test_workers_change_nothing_wherever_an_epoch_starts(photos, sketches, needs):
    others = {"target": sketches, "sources": [f"again={photos}"]}
    whole = tensors(opened(photos, **others), needs)
    each = 7 + needs.views
    for workers in (0, 1, 2, 4):
        data = opened(photos, workers=workers, **others)
        assert same(tensors(data, needs), whole)
        assert same(tensors(data, needs, start=2), whole[2 * each :])


class Counted(TensorDataset):
    """Rows that count how often they are read."""

    reads = 0

    def __getitem__(self, row):
        self.reads += 1
        return super().__getitem__(row)


def test_an_epoch_that_starts_in_the_middle_reads_nothing_of_what_came_before():
    sides = [Counted(*numbered(20).tensors) for _ in range(2)]
    small = numbered(3)
    loading = Loading(batch_size=4)
    data = from_datasets(sides[0], small, small, classes="abc", target=sides[1], loading=loading)
    assert len(list(data.batches(BOTH, 0, 3))) == 2
    assert [one.reads for one in sides] == [8, 8]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_both_sides_of_every_batch(photos, sketches, world, monkeypatch):
    data = opened(photos, target=sketches)
    whole, shares = list(data.batches(BOTH, 1, 1)), []
    for rank in range(world):
        for reader in ("batch_reader", "split_reader"):
            place = f"adaptune.data.{reader}.rank_and_world"
            monkeypatch.setattr(place, lambda rank=rank: (rank, world))
        shares.append(list(data.batches(BOTH, 1, 1)))
    for batch, *parts in zip(whole, *shares, strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(part.unlabeled.x, batch.unlabeled.x[rank::world])
            assert torch.equal(part.labeled.index, batch.labeled.index[rank::world])


def test_a_file_of_the_target_that_is_broken_is_left_out_and_named(photos, flat):
    broken = sorted(flat.iterdir())[0]
    broken.write_bytes(b"no image")
    data = opened(photos, target=flat)
    assert sum(map(len, data.unlabeled())) == len(data.target) - 1
    assert list(data.problems) == [str(broken)]
    views = Needs(labeled=False, unlabeled=True, views=1)
    for batch in data.batches(views, 0):
        assert len(batch.unlabeled.x) == len(batch.unlabeled.views[0])


def test_a_target_alone_needs_no_source(sketches, flat):
    classes = ("dots", "rings", "stripes")
    data = other_domains({"more": sketches}, classes=classes, target=flat).with_input(LOOK)
    assert [len(list(data.scan(split))) for split in ("train", "val", "test")] == [0, 0, 0]
    assert list(data.tests()) == ["more"]
    assert data.steps(ALONE) == 1
    (batch,) = data.batches(ALONE, 0)
    assert len(batch.unlabeled) == len(data.target)


@pytest.fixture
def three(photos, sketches, tmp_path):
    """Photos and two further sources, the last with few images and its own spelling."""
    small = tmp_path / "small"
    for path in photos.glob("*/*-0[0-7].png"):
        (small / path.parent.name.upper()).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, small / path.parent.name.upper() / f"small-{path.name}")
    return {"sources": [f"sketch={sketches}", f"small={small}"], "shares": Shares(0.1, 0.1)}


def test_several_sources_lie_one_after_the_other_in_every_split(photos, three):
    data = opened(photos, **three)
    assert data.domains == 3
    for split in ("train", "val", "test"):
        rows = list(data.scan(split))
        index, domain = (torch.cat([getattr(one, k) for one in rows]) for k in ("index", "domain"))
        assert index.tolist() == list(range(len(data.sets[split])))
        assert domain.tolist() == sorted(domain.tolist())
        counts = Counter(domain.tolist())
        assert tuple(counts[at] for at in range(3)) == data.parts[split]
        for row, number in zip(index.tolist(), domain.tolist(), strict=True):
            names = ("photo", "sketch", "small")
            assert data.sets[split].paths[row].parents[1].name == names[number]
    sampled = torch.cat([one.domain for one in data.sample("train", 12)])
    assert set(sampled.tolist()) == {0, 1, 2}
    assert "domains to train on, with their training images: photo (" in data.notes[-1]


def test_a_batch_has_equal_parts_of_every_source_and_the_largest_is_seen_once(photos, three):
    data = opened(photos, **three)
    batches = [batch.labeled for batch in data.batches(Needs(domains=3), 0)]
    for batch in batches:
        assert batch.domain.tolist() == [0] * 3 + [1] * 3 + [2] * 2
        assert all(data.domains > number for number in batch.domain.tolist())
    rows = [row for batch in batches for row in batch.index[batch.domain == 0].tolist()]
    assert len(set(rows)) == len(rows)
    assert len(batches) == max(
        count // part for count, part in zip(data.parts["train"], (3, 3, 2), strict=True)
    )
    first = data.parts["train"][0] + data.parts["train"][1]
    small = [row - first for batch in batches for row in batch.index[batch.domain == 2].tolist()]
    assert set(small) == set(range(data.parts["train"][2]))
    assert len(small) > len(set(small)), "it begins again"
    labels = [data.classes[y] for batch in batches for y in batch.y.tolist()]
    files = [
        data.file(int(d), int(i)) for b in batches for d, i in zip(b.domain, b.index, strict=True)
    ]
    assert all(
        label.casefold() in file.casefold() for label, file in zip(labels, files, strict=True)
    )


def test_no_subject_of_any_source_is_tested_elsewhere(photos, sketches, three):
    data = opened(photos, target=f"goal={sketches}", **three)
    trained = {p.stem for split in ("train", "val") for p in data.sets[split].paths}
    assert data.paths("goal")
    assert not trained & {path.stem for path in data.paths("goal")}


def test_what_cannot_be_is_said(photos, sketches, three):
    with pytest.raises(ValueError, match="2 images cannot hold some of each of 3 labelled domains"):
        opened(photos, batch_size=2, **three).batches(Needs(), 0)
    with pytest.raises(ValueError, match="no domain 'sketch' to train on: give NAME=DIR"):
        opened(photos, sources=["sketch"])
    with pytest.raises(ValueError, match="two domains are called 'sketch'"):
        opened(photos, sources=[f"sketch={photos}"], target=sketches)
    with pytest.raises(ValueError, match="no folder at"):
        opened(photos, target=photos / "nothing")
    with pytest.raises(ValueError, match="two test sets are called 'sketch'"):
        opened(photos, target=sketches, ood={"sketch": sketches})
