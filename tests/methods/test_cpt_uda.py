"""Continued pretraining: which words are hidden, its loss, its phases, and what it is for."""

from __future__ import annotations

from copy import deepcopy

import pytest
import texts
import tokens
import torch
import toy
from lightning_fabric import Fabric
from two import on_two

from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.cpt_uda import CPTUDA
from adaptune.networks.backbones import open_backbone
from adaptune.networks.masked_words import token_states
from adaptune.ops.mixing import row_draws
from adaptune.runs.needs import refuse_tokens
from adaptune.tasks.classification import Classification
from adaptune.types import Batch

TASK = Classification(2)
PLAN = Plan(epochs=10, optimizer="adamw", layout="contiguous")


def learnt(kind=CPTUDA, *, seed: int = 0, plan: Plan = PLAN, batch_size: int = 16, **options):
    method = kind(tokens.network(seed), TASK, lr=0.05, **options)
    return method, list(fit(method, tokens.domains(batch_size), plan))


def batch(progress: float = 0.0, method: CPTUDA | None = None) -> Batch:
    method = method or CPTUDA(tokens.network(), TASK)
    rows = next(iter(tokens.domains().batches(method.needs, 0)))
    return Batch(rows.labeled, rows.unlabeled, progress)


def test_the_masked_loss_is_the_cross_entropy_of_the_hidden_words_by_the_table_in_float64():
    method, rows = CPTUDA(tokens.network(), TASK, hidden=0.4).double(), batch()
    with torch.no_grad():
        method.words.turn.weight.normal_()
        method.words.bias.normal_()
    torch.manual_seed(5)
    term = method.objective(rows).terms["masked"]
    torch.manual_seed(5)
    expected = []
    for side in (rows.labeled, rows.unlabeled):
        draws = row_draws(side.index, 2 * side.x.shape[1])
        losses = []
        for ids, drawn in zip(side.x.tolist(), draws.tolist(), strict=True):
            which, how = drawn[: len(ids)], drawn[len(ids) :]
            at = [n for n, one in enumerate(ids) if one > 4 and which[n] < 0.4]
            read = list(ids)
            for n in at:
                if how[n] < 0.8:
                    read[n] = 4
                elif how[n] < 0.9:
                    read[n] = 1 + int((how[n] - 0.8) * 10 * 39)
            own = method.net.body.words.weight
            state = method.net.body.turn(own[[one for one in read if one]].mean(0))
            turned = method.words.turn.weight @ state + method.words.turn.bias
            said = (own @ turned + method.words.bias).log_softmax(0)
            losses += [-said[ids[n]] for n in at]
        expected.append(torch.stack(losses).mean())
    assert term.item() == pytest.approx((sum(expected) / 2).item())


def test_an_encoders_states_are_those_that_it_pools_and_padding_is_never_hidden(tmp_path):
    folder = texts.encoder(tmp_path, pad_token_id=1)
    look = texts.tokenizer(pad="[PAD]", first="[UNK]")
    (folder / "tokenizer.json").write_text(look)
    net = open_backbone(f"hf:{folder}", ["neg", "pos"], length=10).eval()
    method = CPTUDA(net, TASK)
    x = torch.tensor([[3, 10, 11, 12, 4, 0, 0, 0, 0, 0]])
    with token_states(net.body) as states:
        features = net.body(x)
    assert torch.allclose(states[0][:, :5].mean(1), features, atol=1e-6)
    assert not net.body._forward_hooks_with_kwargs.keys() - net.body._forward_hooks.keys()
    draws = torch.zeros(1, 20)
    read, chosen = method.words.hide(x, draws, 0.5)
    assert chosen.tolist() == [[False, True, True, True, *[False] * 6]]
    assert set(read[chosen].tolist()) == {method.words.mask} != {0}
    said = method.words(net.body, read, chosen)[1]
    assert said.shape == (3, 64)
    with token_states(net.body) as states:
        net.body(read)
    own = states[0][0, 1:4] @ net.body.embeddings.word_embeddings.weight.T
    assert torch.allclose(said[:, 1], own[:, 0], atol=1e-5), "ids 0 and 1 are traded"
    assert torch.allclose(said[:, 2:], own[:, 2:], atol=1e-5)


def test_words_that_only_the_target_has_are_told_apart_by_what_stands_beside_them():
    adapted, alone = (
        sum(tokens.accuracy(learnt(kind, seed=seed)[0].net) for seed in range(3)) / 3
        for kind in (CPTUDA, FineTune)
    )
    assert adapted > alone + 25
    assert adapted > 90


def test_without_pretraining_it_is_fine_tuning_to_the_bit():
    plan = Plan(epochs=2, optimizer="adamw", layout="contiguous")
    (plain, _), (tuned, _) = (
        learnt(kind, plan=plan, **options)
        for kind, options in ((CPTUDA, {"pretraining": 0.0}), (FineTune, {}))
    )
    for key, value in tuned.net.state_dict().items():
        assert torch.equal(value, plain.net.state_dict()[key])


def test_hidden_words_move_the_body_and_labels_the_head():
    method = CPTUDA(tokens.network(), TASK)
    descent = Descent(method, PLAN, Fabric(accelerator="cpu", devices=1))
    for progress, still in ((0.0, "net.head"), (0.5, "words")):
        before = {key: value.clone() for key, value in method.named_parameters()}
        terms = method.step(batch(progress, method), descent).terms
        assert list(terms) == ["masked" if progress < 0.5 else "task"]
        stays = {key for key, value in method.named_parameters() if torch.equal(value, before[key])}
        assert stays == {key for key in before if key.startswith(still)}


def test_a_run_that_goes_on_after_an_epoch_ends_at_the_same_bits():
    plan = Plan(epochs=4, layout="contiguous")
    whole = CPTUDA(tokens.network(), TASK)
    states = [deepcopy(one.state) for one in fit(whole, tokens.domains(), plan)]
    for at in (1, 3):
        again = CPTUDA(tokens.network(7), TASK)
        list(fit(again, tokens.domains(), plan, state=states[at]))
        for key, value in whole.state_dict().items():
            assert torch.equal(value, again.state_dict()[key])


def run_of_two() -> dict:
    method = CPTUDA(tokens.network().double(), TASK).double()
    terms = [one.terms for one in fit(method, tokens.domains(15), Plan(epochs=4))]
    return {"state": method.state_dict(), "terms": terms}


@pytest.mark.slow
def test_two_processes_hide_the_words_that_one_does(tmp_path):
    one, other = on_two(run_of_two, tmp_path)
    assert one["terms"] == other["terms"]
    alone = run_of_two()
    torch.testing.assert_close(one["state"], alone["state"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (toy.network, "this network reads images: give --backbone"),
        (lambda: open_backbone("ngrams", ["neg", "pos"]), "a bag of words has none: give"),
    ],
)
def test_networks_without_tokens_are_refused_in_words(net, said):
    with pytest.raises(ValueError, match=said):
        CPTUDA(net(), TASK)


def test_a_tokenizer_without_a_mask_and_shares_that_are_none_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="pretraining is a share"):
        CPTUDA(tokens.network(), TASK, pretraining=1.0)
    monkeypatch.setattr("adaptune.networks.masked_words.MASKS", ("[none]",))
    with pytest.raises(ValueError, match=r"no \[none\], so no words can be hidden: give"):
        CPTUDA(tokens.network(), TASK)


def test_images_are_refused_before_anything_is_built():
    refuse_tokens(FineTune)
    with pytest.raises(ValueError, match="CPTUDA hides words of texts"):
        refuse_tokens(CPTUDA)
