"""KL-DP: whose prediction is learnt, the loss, and teachers through a whole run."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from toy import CLASSES, Toy, domains, network, trained

from adaptune.commands import main
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.teachers.kl_dp import KLDP, flips
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.runs.setup import open_session
from adaptune.tasks.classification import Classification
from adaptune.types import Batch

TASK = Classification(len(CLASSES))


def learning(student: Network, *others: Network, **options) -> KLDP:
    teachers = tuple(Reference(one.double(), student.preprocess) for one in others)
    return KLDP(student.double(), TASK, teachers, **options).double().train()


def rows() -> Batch:
    batch = next(iter(domains().batches(KLDP.needs, 0)))
    return Batch(replace(batch.labeled, x=batch.labeled.x.double()))


@pytest.mark.parametrize("choose", ["label", "confidence"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_is_that_of_the_formula(choose, temperature):
    student = trained(epochs=1)
    other = trained(1, epochs=1)
    method = learning(deepcopy(student), deepcopy(other), choose=choose, temperature=temperature)
    with torch.no_grad():
        method.net.head.bias.add_(torch.tensor([0.3, -0.2, 0.5]))
    batch = rows()
    x, y = batch.labeled.x, batch.labeled.y
    z, old, new = method.net(x), *(one.double().eval()(x) for one in (student, other))
    p, q = old.softmax(1), new.softmax(1)
    at = torch.arange(len(y))
    takes = q[at, y] > p[at, y] if choose == "label" else q.max(1).values > p.max(1).values
    assert 0 < takes.sum() < len(y)
    total = 0.0
    for row in range(len(y)):
        wanted = ((new if takes[row] else old)[row] / temperature).softmax(0)
        total += (wanted * (wanted.log() - (z[row] / temperature).log_softmax(0))).sum()
    found = method.objective(batch).terms["transfer"]
    assert found.item() == pytest.approx(temperature**2 * total.item() / len(y), rel=1e-12)


def test_a_copy_as_teacher_gives_no_loss_and_no_slope():
    student = trained()
    method = learning(student, deepcopy(student), deepcopy(student))
    found = method.objective(rows()).terms["transfer"]
    assert found.item() == pytest.approx(0, abs=1e-15)
    slopes = torch.autograd.grad(found, list(method.net.parameters()))
    assert max(one.abs().max().item() for one in slopes) < 1e-12


def test_of_several_teachers_the_one_that_knows_a_row_best_is_learnt():
    first, second = trained(1), trained(2)
    batch = rows()
    at, y = torch.arange(len(batch.labeled)), batch.labeled.y
    method = learning(network(), first, second)
    said = torch.stack([one(batch.labeled.x) for one in method.known])
    best = said.softmax(2)[:, at, y].argmax(0)
    assert set(best.tolist()) >= {1, 2}
    one = Batch(replace(batch.labeled, **{k: getattr(batch.labeled, k)[best == 1] for k in "xy"}))
    alone = learning(network(), deepcopy(first))
    both, single = (m.objective(one).terms["transfer"] for m in (method, alone))
    assert both.item() == pytest.approx(single.item(), rel=1e-12)


def test_a_weaker_teacher_costs_nothing_where_plain_distillation_does():
    student, weak = trained(), network(3)
    data = domains()
    before = evaluate(student, data.scan("test"), TASK).scores.main.value
    teachers = (Reference(weak, student.preprocess),)
    method = KLDP(deepcopy(student), TASK, teachers, lr=0.03)
    notes = [epoch.notes for epoch in fit(method, data, Plan(epochs=4))]
    after = evaluate(method, data.scan("test"), TASK).scores.main.value
    assert after >= before - 1
    assert evaluate(weak, data.scan("test"), TASK).scores.main.value < before - 10
    assert notes[0]["flips"] == flips(method.known, data.scan("train"))
    assert notes[0]["flips"][0]["lost"] > 10


def test_neither_the_copy_nor_teachers_are_part_of_the_state():
    method = learning(network(), trained(1))
    assert all(key.startswith("net.") for key in method.state_dict())
    assert len(list(method.parameters())) == len(list(method.net.parameters()))


def test_a_session_refuses_teachers_that_are_missing_or_that_nobody_takes(tmp_path):
    with pytest.raises(ValueError, match="KLDP learns from another network and got none: pass"):
        open_session(KLDP, {}, domains(), Toy(), Plan())
    from adaptune.methods.supervised.ft import FineTune

    with pytest.raises(ValueError, match="FineTune learns from no other network: leave out"):
        open_session(FineTune, {}, domains(), Toy(teachers=("run",)), Plan())


def test_a_run_learns_from_finished_ones_goes_on_and_is_evaluated_without_them(
    finished, photos, tiny, tmp_path, capsys
):
    teacher, out = tmp_path / "teacher", tmp_path / "out"
    small = [word for word in tiny if not word.startswith("--image-size")]
    own = ["--method=ft", "--epochs=1", "--image-size=48", f"--out={teacher}"]
    assert main(["fit", str(photos), *small, *own]) == 0
    words = ["fit", str(photos), *tiny, "--method=kl-dp", "--lr=0.01", "--from", str(finished)]
    words += ["--teacher", str(teacher), str(finished)]
    assert main([*words, "--epochs=1", f"--out={out}"]) == 0
    moved = teacher.rename(tmp_path / "elsewhere")
    again = ["fit", f"--out={out}", "--resume", "--epochs=2", "--teacher"]
    capsys.readouterr()
    assert main([*again, str(finished), str(moved)]) == 1
    assert "was begun with 2 teachers whose weights were others" in capsys.readouterr().err
    assert main([*again, str(moved), str(finished)]) == 0
    for file in moved.rglob("network.*"):
        file.unlink()
    assert main(["evaluate", str(out), "--data", f"photo={photos}"]) == 0
