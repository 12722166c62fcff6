import math
from dataclasses import fields, replace

import pytest
import torch

import adaptune.selection as selection
from adaptune.selection import SCORES, Evidence, gap_to_oracle, label_free, rank_agreement
from adaptune.types import Outputs

CLASSES, WIDTH = 5, 12


def network(noise):
    """Evidence of a network whose features are as noisy, more so on the target, and its accuracy.

    The classes lie on a simplex; the target's accuracy is kept apart, no score may see it.
    """
    random = torch.Generator().manual_seed(0)
    means = torch.nn.functional.pad(torch.eye(CLASSES) - 1 / CLASSES, (0, WIDTH - CLASSES))

    def draw(count, spread, shift=0.0):
        y = torch.arange(count) % CLASSES
        return means[y] + spread * torch.randn(count, WIDTH, generator=random) + shift, y

    train, _ = draw(200, noise / 2)
    val, val_y = draw(300, noise / 2)
    features, y = draw(400, noise, shift=0.05)
    weight = means + 0.3 * noise * torch.randn(CLASSES, WIDTH, generator=random)
    outputs = Outputs(9 * val @ weight.T, val_y, val, torch.arange(300))
    before = means[y] + 0.05  # what features were before noise came in
    told = torch.tensor([90.0, 100 - 90 * noise])  # what made shifts would have come to
    evidence = Evidence(
        *(9 * features @ weight.T, features, weight, outputs, train, before), shifted=lambda: told
    )
    return evidence, 100 * float((evidence.logits.argmax(1) == y).double().mean())


@pytest.fixture(scope="module")
def family():
    """Scores of ten networks from good to bad, and their true accuracies."""
    networks = [network(noise) for noise in torch.linspace(0.1, 0.9, 10).tolist()]
    scores = [label_free(evidence) for evidence, _ in networks]
    return scores, [truth for _, truth in networks]


@pytest.mark.parametrize("name", [name for name in SCORES if name != "dispersion"])
def test_scores_rank_a_family_of_networks_as_the_truth_does(family, name):
    scores, truth = family
    assert rank_agreement([score[name] for score in scores], truth) > 0.5


def test_dispersion_takes_noise_for_distance(family):
    """Rows that noise carries far to one side are called one class: so means move apart."""
    scores, truth = family
    assert rank_agreement([score["dispersion"] for score in scores], truth) < -0.5


def test_selecting_by_the_transfer_score_loses_little(family):
    scores, truth = family
    assert gap_to_oracle([score["transfer-score"] for score in scores], truth) < 2.0


def test_evidence_has_no_place_for_labels_of_the_target():
    names = {field.name for field in fields(Evidence)}
    assert names == {"logits", "features", "weight", "val", "train_features", "before", "shifted"}
    evidence, _ = network(0.3)
    assert len(evidence.val.y) == 300  # the only labels, and there are 400 target images


def test_all_scores_at_once_are_those_one_by_one():
    evidence, _ = network(0.3)
    scores = label_free(evidence)
    assert list(scores) == list(SCORES)
    for name, score in SCORES.items():
        assert score(replace(evidence)) == scores[name]  # a copy shares nothing worked out


def test_the_density_ratio_is_estimated_once(monkeypatch):
    calls = []
    estimate = selection.evidence.density_ratio
    monkeypatch.setattr(
        selection.evidence, "density_ratio", lambda *given: calls.append(1) or estimate(*given)
    )
    label_free(network(0.3)[0])
    assert len(calls) == 1


def test_scoring_leaves_the_evidence_and_the_generator_alone():
    evidence, _ = network(0.3)
    before = [evidence.logits.clone(), evidence.features.clone(), evidence.val.features.clone()]
    state = torch.get_rng_state()
    label_free(evidence)
    after = [evidence.logits, evidence.features, evidence.val.features]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_half_precision_and_gradients_do_no_harm():
    evidence, _ = network(0.3)
    tracked = replace(evidence, weight=torch.nn.Parameter(evidence.weight))
    assert label_free(tracked) == label_free(evidence)
    coarse = replace(evidence, logits=evidence.logits.bfloat16())
    assert label_free(coarse)["entropy"] == pytest.approx(label_free(evidence)["entropy"], abs=0.01)


def undefined(evidence):
    return {name for name, score in label_free(evidence).items() if math.isnan(score)}


def only(evidence, rows):
    """Evidence of fewer target images."""
    parts = {name: getattr(evidence, name)[:rows] for name in ("logits", "features", "before")}
    return replace(evidence, **parts)


def test_one_target_image_leaves_only_what_needs_no_other():
    evidence, _ = network(0.3)
    one = only(evidence, 1)
    assert undefined(one) == {"snd", "iwv", "dev", "transfer-score", "dispersion"}


def test_one_class_has_nothing_to_spread():
    evidence, _ = network(0.3)
    val = replace(evidence.val, logits=evidence.val.logits[:, :1], y=0 * evidence.val.y)
    one = replace(evidence, logits=evidence.logits[:, :1], weight=evidence.weight[:1], val=val)
    assert undefined(one) == {"transfer-score", "dispersion"}


def test_a_network_that_diverged_has_no_score():
    evidence, _ = network(0.3)
    broken = torch.full_like(evidence.val.logits, math.nan)
    val = replace(evidence.val, logits=broken)
    logits, features = evidence.logits * math.nan, evidence.features * math.inf
    assert undefined(replace(evidence, logits=logits, features=features, val=val)) == set(SCORES)


def test_an_empty_target_leaves_only_accuracies_on_validation():
    evidence, _ = network(0.3)
    empty = only(evidence, 0)
    assert undefined(empty) == set(SCORES) - {"id-validation", "made-shifts"}


@pytest.mark.parametrize("field", ["features", "weight", "train_features", "before"])
def test_evidence_that_does_not_fit_together_is_refused(field):
    evidence, _ = network(0.3)
    with pytest.raises(ValueError, match=r"has shape .* expected"):
        replace(evidence, **{field: getattr(evidence, field)[:, :-1]})


def test_agreement_is_the_correlation_of_ranks():
    assert rank_agreement([1.0, 2.0, 3.0, 4.0], [10.0, 30.0, 20.0, 40.0]) == pytest.approx(0.8)
    assert rank_agreement([1.0, 2.0, 3.0], [9.0, 4.0, 1.0]) == pytest.approx(-1.0)
    assert rank_agreement([1.0, 1.0, 2.0], [1.0, 2.0, 3.0]) == pytest.approx(math.sqrt(3) / 2)


def test_agreement_with_what_does_not_vary_is_nan():
    assert math.isnan(rank_agreement([1.0, 1.0], [1.0, 2.0]))
    assert math.isnan(rank_agreement([1.0, 2.0], [1.0, 1.0]))
    assert math.isnan(rank_agreement([1.0, math.nan, 3.0], [1.0, 2.0, 3.0]))
    assert math.isnan(rank_agreement([1.0], [1.0]))


def test_the_gap_is_what_the_selected_network_lacks():
    assert gap_to_oracle([0.1, 0.9, 0.5], [80.0, 90.0, 70.0]) == 0.0
    assert gap_to_oracle([0.9, 0.9, 0.5], [80.0, 90.0, 70.0]) == 10.0  # of ties the first
    assert gap_to_oracle([math.nan, 0.2, 0.1], [80.0, 70.0, 90.0]) == 20.0
    assert math.isnan(gap_to_oracle([math.nan, math.nan], [80.0, 70.0]))


def test_scores_and_truths_of_different_networks_are_refused():
    for compare in (rank_agreement, gap_to_oracle):
        with pytest.raises(ValueError, match="one of each"):
            compare([1.0, 2.0], [1.0])
        with pytest.raises(ValueError, match="one of each"):
            compare([], [])
