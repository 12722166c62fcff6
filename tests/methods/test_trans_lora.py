"""Trans-LoRA: the loss, what learns, and what one encoder learnt taken to another tokenizer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from texts import SPECIAL, encoder, rows, tokenizer
from toy import CLASSES, domains, network, trained

from adaptune.data import open_domains
from adaptune.data.domains import DomainData, Loading
from adaptune.data.readers.texts import TextSource
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.teachers.trans_lora import TransLoRA
from adaptune.networks.backbones import open_backbone
from adaptune.networks.inputs import TextInput
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.networks.retelling import read_again
from adaptune.tasks.classification import Classification
from adaptune.types import Batch

pytest.importorskip("peft")
TASK = Classification(len(CLASSES))


def made(net: Network, teacher: Network, **options) -> TransLoRA:
    return TransLoRA(net, TASK, Reference(teacher, net.preprocess), **options)


@pytest.mark.parametrize("learn", ["label", "probabilities"])
def test_the_loss_is_the_cross_entropy_to_what_the_teacher_says_and_no_labels(learn):
    method = made(network().double(), trained(1).double(), learn=learn).eval()
    batch = next(iter(domains().batches(TransLoRA.needs, 0)))
    x = batch.labeled.x.double()
    said, logits = method.teacher(x).softmax(1), method.net(x).log_softmax(1)
    total = 0.0
    for row, wanted in zip(logits, said, strict=True):
        weights = wanted if learn == "probabilities" else (wanted == wanted.max()).double()
        total -= (weights * row).sum().item()
    losses = {
        method.objective(Batch(replace(batch.labeled, x=x, y=y))).terms["transfer"].item()
        for y in (batch.labeled.y, torch.zeros_like(batch.labeled.y))
    }
    assert [*losses] == [pytest.approx(total / len(x), rel=1e-12)]


def test_adapters_and_head_learn_and_neither_body_nor_teacher_do():
    method = made(network(), trained(1))
    before = {key: value.clone() for key, value in method.state_dict().items()}
    for _ in fit(method, domains(), Plan(epochs=2)):
        pass
    moved = {key for key, value in method.state_dict().items() if not value.equal(before[key])}
    assert moved == {key for key in before if "lora_" in key or "head" in key}
    assert not any("teacher" in key for key in before)


@pytest.mark.parametrize("options", [{"rank": 0}, {"alpha": 0.0}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="numbers above 0"):
        made(network(), trained(1), **options)


def special(first: str) -> str:
    """Give a tokenizer that knows which of its tokens are no words, as those of encoders do."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(tokenizer(first=first))
    made.add_special_tokens(SPECIAL)
    return made.to_str()


def look_of(first: str, **settings) -> TextInput:
    return TextInput(tokenizer=special(first), vocabulary=64, **settings)


def test_texts_are_read_again_as_the_other_tokenizer_reads_them():
    from tokenizers import Tokenizer

    look, own = look_of("[PAD]", length=12), look_of("[UNK]", length=8, pad=1)
    texts = ["the film was good", "sad", "people who went home today with music again"]
    ids = torch.zeros(3, 12, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        said = Tokenizer.from_str(look.tokenizer).encode(text).ids
        row[: len(said)] = torch.tensor(said)
    again = read_again(ids, look, own)
    reader = Tokenizer.from_str(own.tokenizer)
    reader.no_padding()
    reader.enable_truncation(8)
    for row, text in zip(again, texts, strict=True):
        wanted = [{0: 1, 1: 0}.get(one, one) for one in reader.encode(text).ids]
        assert row.tolist() == [*wanted, *[0] * (8 - len(wanted))]
    assert read_again(ids, look, replace(look, length=20)) is ids
    with pytest.raises(ValueError, match="hashed words .* have none"):
        read_again(ids, look, TextInput())


def test_what_an_encoder_learnt_comes_over_by_texts_of_any_labels(tmp_path):
    folders = [encoder(tmp_path / name) for name in "ab"]
    for folder, first in zip(folders, ("[PAD]", "[UNK]"), strict=True):
        (folder / "tokenizer.json").write_text(special(first))
    config = folders[1] / "config.json"
    config.write_text(config.read_text().replace('"pad_token_id": 0', '"pad_token_id": 1'))
    task, plan = Classification(2), Plan(epochs=5, optimizer="adamw")

    def data(seed: int, labels: dict[str, str]) -> DomainData:
        lines = [f"{text},{labels.get(kind, kind)}" for text, kind in rows(160, "a", seed)]
        (tmp_path / f"{seed}.csv").write_text("\n".join(["text,label", *lines]))
        return open_domains(tmp_path / f"{seed}.csv", texts=TextSource(), loading=Loading(16))

    def trained_on(method: Method, some: DomainData) -> Network:
        for _ in fit(method, some.with_input(method.net.preprocess), plan):
            pass
        return method.net

    real, wrong = data(0, {}), data(1, {"pos": "neg", "neg": "pos"})
    known = [open_backbone(f"hf:{one}", real.classes) for one in folders]
    teacher, student = (trained_on(FineTune(one, task, lr=3e-3), real) for one in known)
    torch.manual_seed(0)
    student.head = student.fresh_head()
    method = TransLoRA(student, task, Reference(teacher, student.preprocess))
    trained_on(method, wrong)
    scores = [
        evaluate(net, real.with_input(net.preprocess).scan("test"), task).scores.main.value
        for net in (teacher, student)
    ]
    assert scores[0] > 90
    assert scores[1] >= scores[0] - 5
