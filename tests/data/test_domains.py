"""Batches are full, shuffled and reproducible; passes are complete; what is broken is named."""

import pytest
import torch
import toy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from adaptune.data.datasets import from_datasets
from adaptune.data.domains import Loading
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains, other_domains
from adaptune.networks.network import Preprocess
from adaptune.types import Needs

NEEDS = Needs()
LOOK = Preprocess(size=8)

# Python 3.12 warns of forks where threads run, which is what loading with workers does.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


def opened(folder, *, ood=None, augment="crop", shares=None, **loading):
    loading = Loading(**({"batch_size": 8} | loading))
    data = open_domains(folder, ood, shares=shares, loading=loading)
    return data.with_input(LOOK, augment)


def rows_of(data, epoch: int = 0) -> list[list[int]]:
    return [batch.labeled.index.tolist() for batch in data.batches(NEEDS, epoch)]


def test_training_batches_are_full_and_no_row_comes_twice(photos):
    data = opened(photos)
    batches = rows_of(data)
    rows = [row for batch in batches for row in batch]
    assert [len(batch) for batch in batches] == [8] * data.steps(NEEDS)
    assert len(set(rows)) == len(rows)
    assert 0 <= len(data.augmented) - len(rows) < 8


def test_rows_that_wait_for_a_full_batch_come_in_another_epoch(photos):
    data = opened(photos)
    assert len(data.augmented) % 8, "the set should leave a rest"
    seen = {row for epoch in range(8) for batch in rows_of(data, epoch) for row in batch}
    assert seen == set(range(len(data.augmented)))


def test_the_order_is_that_of_seed_and_epoch_and_of_nothing_else(photos):
    torch.manual_seed(1)
    first = rows_of(opened(photos), epoch=3)
    torch.manual_seed(2)
    assert rows_of(opened(photos), epoch=3) == first
    assert rows_of(opened(photos), epoch=4) != first
    assert rows_of(opened(photos, seed=1), epoch=3) != first
    assert sum(first, []) != sorted(sum(first, [])), "batches should be shuffled"


def tensors(data, epoch: int = 1, start: int = 0) -> list[torch.Tensor]:
    batches = [batch.labeled for batch in data.batches(NEEDS, epoch, start)]
    return [tensor for one in batches for tensor in (one.x, one.y, one.index, one.domain)]


def test_an_image_is_augmented_anew_in_every_epoch_and_with_every_seed(photos):
    def first_image(data, epoch):
        (found,) = (
            batch.labeled.x[batch.labeled.index == 0]
            for batch in data.batches(NEEDS, epoch)
            if 0 in batch.labeled.index
        )
        return found

    whole = {"batch_size": 1000}
    one = first_image(opened(photos, **whole), 0)
    assert torch.equal(one, first_image(opened(photos, **whole), 0))
    assert not torch.equal(one, first_image(opened(photos, **whole), 1))
    assert not torch.equal(one, first_image(opened(photos, seed=1, **whole), 0))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_change_nothing_not_even_a_bit_wherever_an_epoch_starts(photos):
    alone = opened(photos)
    whole, scanned = tensors(alone), [(rows.x, rows.index) for rows in alone.scan("train")]
    assert alone.steps(NEEDS) > 3
    for workers in (0, 1, 2, 4):
        data = opened(photos, workers=workers)
        assert same(tensors(data), whole)
        assert same(tensors(data, start=2), whole[2 * 4 :])
        for rows, wanted in zip(data.scan("train"), scanned, strict=True):
            assert same((rows.x, rows.index), wanted)


def same(a, b) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


class Counted(TensorDataset):
    """Rows that count how often they are read."""

    reads = 0

    def __getitem__(self, row):
        self.reads += 1
        return super().__getitem__(row)


def test_an_epoch_that_starts_in_the_middle_reads_nothing_of_what_came_before():
    train = Counted(*numbered(20).tensors)
    data = from_datasets(train, train, train, classes="abc", loading=Loading(batch_size=4))
    assert rows_of(data)[3:] == [b.labeled.index.tolist() for b in data.batches(NEEDS, 0, 3)]
    assert train.reads == 20 + 8
    assert list(data.batches(NEEDS, 0, 5)) == []


def test_reading_leaves_the_random_numbers_of_training_alone(photos):
    for workers in (0, 2):
        data = opened(photos, workers=workers)
        before = torch.random.get_rng_state()
        tensors(data)
        list(data.scan("val"))
        assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("there", [False, True])
def test_memory_is_pinned_only_where_a_gpu_was_taken(photos, monkeypatch, there):
    asked = []

    def noted(*args, pin_memory, **given):  # without a GPU torch would warn of it
        asked.append(pin_memory)
        return DataLoader(*args, **given)

    monkeypatch.setattr("adaptune.data.loading.DataLoader", noted)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: there)
    list(opened(photos).scan("val"))
    assert asked == [there]


def test_a_scan_gives_every_row_once_in_order_and_never_varied(photos):
    data = opened(photos)
    count = 0
    for split in ("train", "val", "test"):
        passes = [list(data.scan(split)), list(data.scan(split))]
        indices = torch.cat([rows.index for rows in passes[0]])
        assert indices.tolist() == list(range(len(data.sets[split])))
        assert all(torch.equal(a.x, b.x) for a, b in zip(*passes, strict=True))
        count += len(indices)
    assert count == len(list(photos.glob("*/*.png")))


def test_labels_are_rows_of_the_classes_and_splits_share_no_file(photos):
    data = opened(photos)
    assert data.classes == ("dots", "rings", "stripes")
    paths = []
    for split in ("train", "val", "test"):
        files = data.sets[split]
        paths += files.paths
        for rows in data.scan(split):
            names = [files.paths[row].parent.name for row in rows.index.tolist()]
            assert [data.classes[y] for y in rows.y.tolist()] == names
    assert len(set(paths)) == len(paths)


def test_tests_are_the_own_one_as_id_and_the_others_by_name_each_a_domain(photos, sketches):
    data = opened(photos, ood={"sketch": sketches, "again": sketches})
    first = {name: next(iter(rows)).domain for name, rows in data.tests().items()}
    domains = {name: set(domain.tolist()) for name, domain in first.items()}
    assert domains == {"id": {0}, "sketch": {1}, "again": {2}}
    assert list(data.without_own_test().tests()) == ["sketch", "again"]
    assert {path.parents[1] for path in data.paths("sketch")} == {sketches}
    assert {path.parents[1] for path in data.paths("id")} == {photos}


def test_no_subject_of_training_is_tested_in_another_domain_and_that_is_said(photos, sketches):
    data = opened(photos, ood={"sketch": sketches})
    trained = {path.stem for split in ("train", "val") for path in data.sets[split].paths}
    tested = {path.stem for path in data.paths("sketch")}
    assert tested == {path.stem for path in data.sets["test"].paths}
    assert not trained & tested
    (note,) = data.notes
    assert f"sketch: {len(trained)} images left out" in note


def test_classes_that_do_not_map_are_reported_and_none_at_all_is_an_error(photos, made_classes):
    some = made_classes("some", Dots=3, emus=2)
    data = opened(photos, ood={"some": some})
    labels = [data.classes[y] for rows in data.tests()["some"] for y in rows.y.tolist()]
    assert labels == ["dots"] * 3
    assert "emus (2)" in " ".join(data.notes)
    assert "some: has no image of rings, stripes" in data.notes
    with pytest.raises(ValueError, match=r"no image of other can be tested.*emus"):
        opened(photos, ood={"other": made_classes("other", emus=2)})


@pytest.fixture
def made_classes(tmp_path, photos):
    """Copy a photo into class folders under new names."""
    raw = next(photos.glob("*/*.png")).read_bytes()

    def make(name: str, **counts: int):
        for label, count in counts.items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{name}-{number}.png").write_bytes(raw)
        return tmp_path / name

    return make


def test_nothing_to_train_on_is_an_error_before_anything_is_read(made_classes):
    folder = made_classes("test", cats=3)
    with pytest.raises(ValueError, match="no training images"):
        open_domains(folder.parent)


def test_classes_that_a_network_lacks_are_left_out_and_said(photos):
    data = open_domains(photos, classes=["stripes", "dots"])
    labels = [y for split in ("train", "val", "test") for y in data.sets[split].labels]
    assert sorted(set(labels)) == [0, 1]
    assert "left out: rings" in " ".join(data.notes)


def test_two_test_sets_of_one_name_are_refused(photos, sketches, tmp_path):
    lines = [f"{path},{path.parent.name},{path.parents[1].name}" for path in photos.glob("*/*")]
    lines += [f"{path},{path.parent.name},sketch" for path in sketches.glob("*/*")]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,domain", *lines]))
    with pytest.raises(ValueError, match="two test sets are called 'sketch'"):
        open_domains(tmp_path / "all.csv", {"sketch": sketches})


def damage(folder) -> list[str]:
    """Break a file in every class: one cut off, one empty, one that is text."""
    broken = []
    for number, name in enumerate(("dots", "rings", "stripes")):
        file = folder / name / f"{name}-0{number}.png"
        file.write_bytes((file.read_bytes()[:100], b"", b"text")[number])
        broken.append(str(file))
    return broken


def read_all(data) -> int:
    return sum(len(rows) for split in ("train", "val", "test") for rows in data.scan(split))


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_left_out_and_named_with_a_reason(own_photos, workers):
    broken = damage(own_photos)
    data = opened(own_photos, workers=workers, batch_size=1)
    assert read_all(data) == len(list(own_photos.glob("*/*.png"))) - 3
    assert sorted(data.problems) == sorted(broken)
    assert all(data.problems.values())


def test_problems_stay_known_when_data_are_seen_through_another_network(own_photos):
    broken = damage(own_photos)
    data = opened(own_photos)
    read_all(data.with_input(Preprocess(size=4)))
    assert sorted(data.problems) == sorted(broken)


def test_strict_data_name_the_first_bad_file_and_stop(own_photos):
    damage(own_photos)
    with pytest.raises(ValueError, match=r"photo/.*0\d\.png could not be read: ."):
        read_all(opened(own_photos, strict=True))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}])
def test_loading_refuses_what_cannot_be(wrong):
    with pytest.raises(ValueError, match="must be at least"):
        Loading(**wrong)


def test_data_are_seen_as_each_network_wants_them(photos, sketches):
    data = open_domains(photos, {"sketch": sketches})
    small = data.with_input(Preprocess(size=6))
    for rows in (*small.tests().values(), small.scan("val"), small.scan("train")):
        assert next(iter(rows)).x.shape[1:] == (3, 6, 6)
    assert next(iter(small.batches(NEEDS, 0))).labeled.x.shape[1:] == (3, 6, 6)
    assert next(iter(data.scan("val"))).x.shape[1:] == (3, 224, 224)


def test_only_training_batches_are_augmented(photos):
    plain, varied = opened(photos, augment="none"), opened(photos, augment="crop")
    for a, b in zip(plain.scan("train"), varied.scan("train"), strict=True):
        assert torch.equal(a.x, b.x)
    assert not torch.equal(tensors(plain)[0], tensors(varied)[0])


def test_a_set_smaller_than_a_batch_is_one_batch(photos):
    data = opened(photos, batch_size=1000)
    assert [len(rows) for rows in rows_of(data)] == [len(data.augmented)]


def numbered(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(count * 2.0).view(count, 2), torch.arange(count) % 3)


def test_any_data_set_of_pairs_is_served(photos):
    sets = [numbered(count) for count in (20, 5, 7)]
    data = from_datasets(
        *sets, classes="abc", ood={"far": numbered(3)}, loading=Loading(batch_size=8)
    )
    assert [len(rows) for rows in rows_of(data)] == [8, 8]
    (val,) = data.scan("val")
    assert torch.equal(val.x, sets[1].tensors[0])
    assert val.y.tolist() == [0, 1, 2, 0, 1]
    assert {name: sum(map(len, rows)) for name, rows in data.tests().items()} == {"id": 7, "far": 3}
    assert data.paths("far") == []
    assert torch.equal(next(iter(data.with_input(LOOK).scan("val"))).x, val.x)


def test_measuring_passes_read_the_set_without_augmentation_where_it_is_given():
    train, scanned = numbered(9), TensorDataset(-torch.ones(9, 2), torch.zeros(9).long())
    data = from_datasets(train, numbered(3), numbered(3), classes="abc", scanned=scanned)
    assert (next(iter(data.scan("train"))).x == -1).all()
    assert (next(iter(data.batches(NEEDS, 0))).labeled.x >= 0).all()


class Noisy(Dataset):
    """Rows that differ at each visit, and one that is broken."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row):
        if row == 4:
            raise OSError("the disk is gone")
        return torch.rand(2), 1


def test_what_a_data_set_draws_at_random_depends_on_the_seed_alone():
    runs = []
    for workers in (0, 2):
        loading = Loading(batch_size=6, workers=workers)
        data = from_datasets(Noisy(), Noisy(), Noisy(), classes="ab", loading=loading)
        runs.append(tensors(data))
        assert data.problems == {"row 4": "the disk is gone"}
    assert torch.equal(runs[0][0], runs[1][0])
    assert len(runs[0][0]) == 5


class Broken(TensorDataset):
    """Numbered rows of which some cannot be read."""

    def __init__(self, count: int, *broken: int) -> None:
        super().__init__(*numbered(count).tensors)
        self.broken = broken

    def __getitem__(self, row):
        if row in self.broken:
            raise OSError("cut off")
        return super().__getitem__(row)


def serving(train, **loading):
    return from_datasets(train, train, train, classes="abc", loading=Loading(**loading))


def test_a_batch_never_vanishes_so_its_number_says_where_an_epoch_goes_on():
    rows = rows_of(serving(numbered(12), batch_size=3))
    data = serving(Broken(12, *rows[3], rows[0][0]), batch_size=3)
    found = rows_of(data)
    assert found == [rows[0][1:], rows[1], rows[2], [*rows[0][1:], rows[1][0]]]
    assert [b.labeled.index.tolist() for b in data.batches(NEEDS, 0, 3)] == found[3:]


def test_a_set_of_which_nothing_can_be_read_is_an_error_that_names_the_files():
    data = serving(Broken(5, *range(5)), batch_size=2)
    with pytest.raises(ValueError, match="none of the 5 training images could be read"):
        rows_of(data)
    assert len(data.problems) == 5


def test_strict_data_stop_at_the_first_bad_file_of_a_batch():
    with pytest.raises(ValueError, match="row 3 could not be read: cut off"):
        rows_of(serving(Broken(8, 3), batch_size=2, strict=True))


def test_domains_alone_can_be_tested_where_training_data_are_gone(sketches):
    data = other_domains({"sketch": sketches}, classes=("dots", "rings", "stripes"))
    assert sum(map(len, data.tests()["sketch"])) == len(list(sketches.glob("*/*.png")))
    assert list(data.tests()) == ["sketch"]


def test_shares_decide_how_much_is_held_out(photos):
    none = open_domains(photos, shares=Shares(0.0, 0.0))
    half = open_domains(photos, shares=Shares(0.2, 0.5))
    assert len(none.sets["train"]) == 60
    assert len(half.sets["test"]) > 20


def test_all_images_of_another_domain_are_tested_if_that_is_asked_for(photos, sketches):
    data = opened(photos, ood={"sketch": sketches}, shares=Shares(ood_images="all"))
    assert len(data.ood["sketch"]) == 60
    assert not any("left out" in note for note in data.notes)


def test_a_shuffled_scan_gives_every_row_once_in_an_order_that_the_seed_decides():
    def rows(seed: int) -> list[int]:
        scanned = toy.domains(seed=seed).scan("train", shuffled=True)
        return torch.cat([batch.index for batch in scanned]).tolist()

    assert sorted(rows(0)) == list(range(70))
    assert rows(0) == rows(0) != rows(1)
