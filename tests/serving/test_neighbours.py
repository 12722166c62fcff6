"""What counts as out of the domain, and how often an image of the domain does by mistake."""

import pytest
import torch

from adaptune.serving.neighbours import FEW, NEIGHBOUR, Neighbours, kept_neighbours


def drawn(*counts: int, shift: float = 0.0, seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 6, generator=random) + 1 + shift for count in counts]


def known(trained: torch.Tensor, held: torch.Tensor) -> Neighbours:
    unit = torch.nn.functional.normalize(trained)
    near = Neighbours(unit, torch.arange(len(unit)), torch.empty(0))
    return Neighbours(unit, near.index, near.away(held).sort().values)


def test_the_distance_is_that_of_unit_features_to_the_fifth_neighbour():
    trained, some = drawn(40, 7)
    for row, away in zip(some, known(trained, some).away(some), strict=True):
        one = row.double() / row.double().norm()
        others = trained.double() / trained.double().norm(dim=1, keepdim=True)
        distances = sorted(float((one - other).norm()) for other in others)
        assert float(away) == pytest.approx(distances[NEIGHBOUR - 1], abs=1e-5)


@pytest.mark.parametrize(("held", "rate"), [(9, 1 / 10), (19, 1 / 20), (50, 2 / 51), (199, 0.05)])
def test_new_images_of_the_domain_are_out_as_often_as_is_told(held, rate):
    out = []
    for seed in range(200):
        trained, others, new = drawn(30, held, 20, seed=seed)
        near = known(trained, others)
        assert near.rate == pytest.approx(rate)
        out.append((near.away(new) > near.limit).float().mean())
    assert float(torch.stack(out).mean()) == pytest.approx(rate, abs=0.02)


def test_another_domain_is_out_and_of_too_few_images_nothing_is_told():
    trained, held = drawn(60, 60)
    near = known(trained, held)
    (other,) = drawn(50, shift=-2.5)
    assert float((near.away(other) > near.limit).float().mean()) > 0.8
    assert known(trained, held[: FEW - 1]).limit is None
    assert known(trained, held[:0]).limit is None


def test_what_was_found_is_kept_as_long_as_it_is_of_the_same_and_whole(tmp_path):
    trained, held = drawn(12, 10)
    file, found = tmp_path / "neighbours.safetensors", known(trained, held)
    calls = []

    def find() -> Neighbours:
        calls.append(1)
        return found

    for of, passes in (("a", 1), ("a", 1), ("b", 2)):
        again = kept_neighbours(file, of, find)
        assert torch.equal(again.features, found.features)
        assert torch.equal(again.held, found.held)
        assert len(calls) == passes
    file.write_bytes(file.read_bytes()[:-40])
    kept_neighbours(file, "b", find)
    assert len(calls) == 3
