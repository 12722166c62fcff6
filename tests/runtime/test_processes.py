"""Two processes hold what one holds: batches, passes, statistics, the head.

Two real processes run once and leave what they found; each test looks at a part of it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset
from toy import CLASSES, domains, images, network
from two import on_two

from adaptune.data import Loading, from_datasets
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.lp import LinearProbe
from adaptune.methods.supervised.lp_ft import LinearProbeFineTune
from adaptune.ops.conditioning import Spread
from adaptune.runtime import processes
from adaptune.runtime.signals import Waiting
from adaptune.tasks.classification import Classification
from adaptune.types import Needs

TASK = Classification(len(CLASSES))
KINDS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
CPU = torch.device("cpu")


class Broken(TensorDataset):
    """The toy's images, of which some cannot be read."""

    def __init__(self, broken: tuple[int, ...]) -> None:
        super().__init__(*images(12).tensors)
        self.broken = broken

    def __getitem__(self, row):
        if row in self.broken:
            raise OSError("cut off")
        return super().__getitem__(row)


def of_data() -> dict:
    """Read what one process gets."""
    data = domains(70)
    batches = [batch.labeled for batch in data.batches(Needs(), 1, 1)]
    return {
        "batches": [(rows.index, rows.x, rows.y) for rows in batches],
        "train": [rows.index.tolist() for rows in data.scan("train")],
        "shifted": [rows.index.tolist() for rows in data.tests()["shifted"]],
        "sample": [rows.index.tolist() for rows in data.sample("train", 40)],
        "few": [rows.index.tolist() for rows in domains(10).scan("train")],
    }


def of_broken() -> dict:
    """Train over files of which process 1 can read none of its part of the first batch."""
    loading = Loading(batch_size=4)
    plain = from_datasets(*[Broken(())] * 3, classes=CLASSES, loading=loading)
    order = processes.gather(
        torch.cat([batch.labeled.index for batch in plain.batches(Needs(), 0)])
    ).tolist()
    first = order[6:8]  # process 1's part of the first batch
    data = from_datasets(*[Broken(tuple(first))] * 3, classes=CLASSES, loading=loading)
    sizes = [len(batch.labeled) for batch in data.batches(Needs(), 0)]
    own = dict(data.problems)
    return {"sizes": sizes, "own": own, "all": data.ledger.gathered_problems(), "broken": first}


def of_methods() -> dict:
    """Look at the data as methods do before the first step."""
    daft = DAFT(network(), TASK)
    notes = daft.prepare(domains(70))
    few = DAFT(network(), TASK, pooling="batch")  # one process has no image to look at
    few.prepare(domains(10))
    published = DAFT(network(), TASK, pooling="batch", head="published")
    published.prepare(domains(70))
    probe = LinearProbe(network(), TASK, cs=6)
    told = probe.prepare(domains(70))["probe"]
    tuned = LinearProbeFineTune(network(), TASK, cs=6, batchnorm="converted")
    tuned.prepare(domains(70))
    empty = TensorDataset(torch.empty(0, 3, 8, 8), torch.empty(0, dtype=torch.int64))
    nothing = from_datasets(images(70), empty, empty, classes=CLASSES)
    return {
        "daft": daft.net.state_dict(),
        "examples": notes["conversion"].examples,
        "few": few.net.state_dict(),
        "published": published.net.state_dict(),
        "probe": probe.net.state_dict(),
        "told": told,
        "tuned": tuned.net.state_dict(),
        "nothing": said(lambda: LinearProbe(network(), TASK).prepare(nothing)),
        "unseen": said(lambda: Spread().pooled(CPU)),
    }


def said(what) -> str:
    """Give the words of an error that something should end with."""
    with pytest.raises(Exception, match=".") as error:
        what()
    return f"{type(error.value).__name__}: {error.value}"


def of_answers(rank: int) -> dict:
    """Ask for labels that process 0 knows, then for some that it waits for."""

    def wait(*_) -> list[int]:
        raise Waiting(0, f"process {rank} asks")

    data = replace(domains(10), answers=lambda rows, *_: [row + rank for row in rows])
    labels = data.query_labels(torch.tensor([1, 0])).tolist()
    with pytest.raises(Waiting) as stopped:
        replace(data, answers=wait).query_labels(torch.tensor([2]))
    told = (stopped.value.code, str(stopped.value))
    return {"labels": labels, "asked": data.queried, "stopped": told}


def of_joined() -> torch.Tensor:
    """Go down what is no mean over rows, in uneven shares of them; give the averaged gradient."""
    rank, world = processes.rank_and_world()
    x = torch.arange(15.0, dtype=torch.float64).view(5, 3).sin()
    own, weight = x[rank::world], torch.ones(3, dtype=torch.float64, requires_grad=True)
    rows = processes.join(own * weight)
    apart = (torch.cdist(rows, rows) * weight.sum()).mean() + (own @ weight * rows.std()).mean()
    (apart * len(own) / (len(x) / world)).backward()
    processes.mean_over_processes_([weight.grad])
    return weight.grad


def of_tensors(rank: int) -> dict:
    """Share tensors of all kinds and lengths."""
    own = torch.arange(12.0).view(4, 3)[: 4 if rank else 1] + 10 * rank
    late = torch.full((3, 2), 7.0) if rank else torch.empty(0)
    means = [torch.full((2, 3), float(rank)), torch.tensor(3.0 * rank), torch.ones(0)]
    means += [torch.arange(4.0, dtype=torch.float64) * rank, torch.full((2,), 6e4).half()]
    image = torch.arange(48.0).view(1, 3, 4, 4) * rank
    means.append(image.contiguous(memory_format=torch.channels_last))
    processes.mean_over_processes_(means)
    processes.SLICE = 8  # so that rows travel in many slices
    return {
        "place": (processes.rank_and_world(), processes.is_first()),
        "uneven": {kind: processes.gather(own.to(kind)) for kind in KINDS},
        "late": processes.gather(late),
        "none": processes.gather(torch.empty(0, 4)),
        "columns": processes.gather(own.T[:, :1]),
        "joined": of_joined(),
        "misfit": said(lambda: processes.gather(own[:, : 2 + rank])),
        "whole": said(lambda: processes.mean_over_processes_([torch.ones(2).long()])),
        "means": means,
        "strides": means[-1].is_contiguous(memory_format=torch.channels_last),
        "made": processes.broadcast_from_first(lambda: f"by {rank}"),
        "failed": said(lambda: processes.broadcast_from_first(lambda: 1 // rank)),
        "objects": processes.gather_objects({rank: "x" * rank}),
    }


def everything() -> dict:
    rank, _ = processes.rank_and_world()
    found = {"data": of_data(), "broken": of_broken(), "methods": of_methods()}
    return found | {"answers": of_answers(rank), "tensors": of_tensors(rank)}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes found."""
    return on_two(everything, tmp_path_factory.mktemp("processes"))


def close(state: dict, wanted: dict) -> None:
    assert state.keys() == wanted.keys()
    for key, value in state.items():
        torch.testing.assert_close(value, wanted[key], rtol=1e-7, atol=1e-7)


def test_two_processes_together_get_the_batches_of_one(both):
    wanted = of_data()["batches"]
    assert len(wanted) == 3
    for whole, *parts in zip(wanted, *(one["data"]["batches"] for one in both), strict=True):
        for rank, part in enumerate(parts):
            assert all(torch.equal(a, b[rank::2]) for a, b in zip(part, whole, strict=True))


@pytest.mark.parametrize("kind", ["train", "shifted", "sample", "few"])
def test_a_pass_gives_every_row_to_one_process(both, kind):
    wanted = of_data()[kind]
    assert [one["data"][kind] for one in both] == [wanted[0::2], wanted[1::2]]
    assert kind != "few" or both[1]["data"]["few"] == []


def test_a_process_whose_files_are_broken_takes_every_step(both):
    first, second = (one["broken"] for one in both)
    assert first["sizes"] == second["sizes"] == [2, 2, 2]
    names = [f"row {row}" for row in second["broken"]]
    assert first["own"] == {}
    assert list(second["own"]) == names
    assert first["all"] == second["all"] == dict.fromkeys(names, "cut off")


def test_what_the_first_process_is_answered_all_are(both):
    told = {"labels": [1, 0], "asked": {0, 1}, "stopped": (75, "stopped: process 0 asks")}
    assert [one["answers"] for one in both] == [told, told]


def test_conversion_and_the_head_measure_what_one_process_measures(both):
    alone = of_methods()
    for one in both:
        assert one["methods"]["examples"] == alone["examples"] == 70
        for name in ("daft", "few", "published"):
            close(one["methods"][name], alone[name])
    assert float(alone["daft"]["head.curvature"]) not in (0.0, 1.0)
    for name in ("daft", "few", "published", "probe", "tuned"):
        a, b = (one["methods"][name] for one in both)
        assert all(torch.equal(a[key], b[key]) for key in a), "bit for bit"


def test_the_probe_is_that_of_one_process(both):
    alone = of_methods()
    for one in both:
        assert one["methods"]["told"] == alone["told"]
        for name in ("probe", "tuned"):
            close(one["methods"][name], alone[name])


def test_having_nothing_to_look_at_is_the_same_error_on_all_processes(both):
    for one in both:
        assert "ValueError: linear probing needs" in one["methods"]["nothing"]
        assert "no features were seen" in one["methods"]["unseen"]


def test_rows_are_gathered_in_the_order_of_processes_whatever_their_type(both):
    rows = torch.arange(12.0).view(4, 3)
    wanted = torch.cat([rows[:1], rows + 10])
    for rank, one in enumerate(both):
        found = one["tensors"]
        assert found["place"] == ((rank, 2), rank == 0)
        for kind in KINDS:
            assert found["uneven"][kind].dtype is kind
            assert torch.equal(found["uneven"][kind], wanted.to(kind))
        assert torch.equal(found["columns"], torch.cat([rows[:1].T, rows[:1].T + 10]))
        assert found["objects"] == [{0: ""}, {1: "x"}]


def test_down_joined_rows_processes_go_as_one_does_in_float64(both):
    for one in both:
        torch.testing.assert_close(one["tensors"]["joined"], of_joined(), rtol=1e-12, atol=1e-12)


def test_a_process_without_rows_need_not_know_their_shape(both):
    for one in both:
        assert torch.equal(one["tensors"]["late"], torch.full((3, 2), 7.0))
        assert one["tensors"]["none"].shape == (0, 4)
        assert "ValueError: processes hold rows that do not fit" in one["tensors"]["misfit"]


def test_means_over_processes_are_the_same_bits_in_place(both):
    image = torch.arange(48.0).view(1, 3, 4, 4) / 2
    wanted = [torch.full((2, 3), 0.5), torch.tensor(1.5), torch.ones(0)]
    wanted += [torch.arange(4.0, dtype=torch.float64) / 2, torch.full((2,), 6e4).half(), image]
    for one in both:
        means = one["tensors"]["means"]
        assert all(torch.equal(a, b) for a, b in zip(means, wanted, strict=True))
        assert one["tensors"]["strides"]
        assert "TypeError: a mean over processes needs real numbers" in one["tensors"]["whole"]


def test_the_first_process_makes_what_all_get_even_an_error(both):
    for one in both:
        assert one["tensors"]["made"] == "by 0"
        assert one["tensors"]["failed"].startswith("ZeroDivisionError")


def test_gloo_exchanges_on_the_cpu_and_nccl_on_the_gpu_of_the_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for backend, device in (("gloo", CPU), ("nccl", torch.device("cuda", 3)), ("mpi", CPU)):
        monkeypatch.setattr(torch.distributed, "get_backend", lambda backend=backend: backend)
        assert processes._carrier(torch.ones(2)) == device
