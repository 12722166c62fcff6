"""Several processes share every batch and every pass."""

import pytest
import torch
from test_domains import NEEDS, Broken, numbered, opened, rows_of, serving

# Python 3.12 warns of forks where threads run, which is what loading with workers does.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


@pytest.fixture
def as_process(monkeypatch):
    """Do something as each of several processes would."""

    def run(world: int, what):
        told = []
        for rank in range(world):
            for reader in ("batch_reader", "split_reader"):
                place = f"adaptune.data.{reader}.rank_and_world"
                monkeypatch.setattr(place, lambda rank=rank: (rank, world))
            told.append(what())
        monkeypatch.undo()
        return told

    return run


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_every_batch_of_one_process_with_its_augmentation(
    photos, world, as_process
):
    data = opened(photos)
    shares = as_process(world, lambda: [batch.labeled for batch in data.batches(NEEDS, 1, 1)])
    for whole, *parts in zip((b.labeled for b in data.batches(NEEDS, 1, 1)), *shares, strict=True):
        assert {len(part) for part in parts} <= {8 // world, -(-8 // world)}
        for rank, part in enumerate(parts):
            assert torch.equal(part.index, whole.index[rank::world])
            assert torch.equal(part.x, whole.x[rank::world])


@pytest.mark.parametrize("world", [2, 5])
def test_processes_share_a_pass_in_whole_batches_and_some_may_get_none(world, as_process):
    data = serving(numbered(30), batch_size=8)
    passes = {
        "scan": lambda: [rows.index.tolist() for rows in data.scan("val")],
        "sample": lambda: [rows.index.tolist() for rows in data.sample("val", 11)],
        "tests": lambda: [rows.index.tolist() for rows in data.tests()["id"]],
    }
    for read in passes.values():
        alone, shares = read(), as_process(world, read)
        for rank, share in enumerate(shares):
            assert share == alone[rank::world]


def test_a_batch_with_fewer_images_than_processes_is_refused(as_process):
    for train, size in ((numbered(20), 2), (numbered(2), 8)):
        data = serving(train, batch_size=size)
        with pytest.raises(ValueError, match="2 images cannot be shared by 3 processes.*larger"):
            as_process(3, lambda data=data: data.batches(NEEDS, 0))


def test_a_process_of_whose_part_nothing_can_be_read_takes_the_images_that_come_next(as_process):
    rows = rows_of(serving(numbered(22), batch_size=4))
    left, second = rows[1][1::2], rows[1][0]
    data = serving(Broken(22, *left, second, rows[2][1]), batch_size=4)
    shares = as_process(2, lambda: rows_of(data))
    assert [len(share) for share in shares] == [5, 5]
    assert shares[0][1] == [rows[1][2]], "what is left of a part is a part"
    assert shares[1][1] == [rows[2][2], rows[2][3]], "from its own number after the batch on"
    assert [share[:1] + share[2:] for share in shares] == [
        [rows[0][0::2], rows[2][0::2], rows[3][0::2], rows[4][0::2]],
        [rows[0][1::2], rows[2][3:], rows[3][1::2], rows[4][1::2]],
    ]
    assert as_process(2, lambda: rows_of(data)) == shares
    assert set(data.problems) == {f"row {row}" for row in (*left, second, rows[2][1])}
