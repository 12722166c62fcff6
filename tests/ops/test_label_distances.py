"""Answers by a metric on labels equal the brute force of the formula, whatever is an answer."""

from __future__ import annotations

import math

import pytest
import torch

from adaptune.data.label_distances import read_label_distances
from adaptune.ops.label_distances import edge_distances, frechet_costs
from adaptune.tasks.by_distance import ByDistance
from adaptune.types import Outputs


def line(count: int) -> torch.Tensor:
    at = torch.arange(count).double()
    return (at[:, None] - at).abs()


def random_metric(count: int) -> torch.Tensor:
    points = torch.randn(count, 3, dtype=torch.float64)
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def brute(logits: torch.Tensor, distances: torch.Tensor) -> list[int]:
    answers = []
    for row in logits.double().tolist():
        shares = [math.exp(one) for one in row]
        costs = [
            sum(p * float(d) ** 2 for p, d in zip(shares, line, strict=True)) / sum(shares)
            for line in distances
        ]
        answers.append(costs.index(min(costs)))
    return answers


def test_the_answer_is_what_has_the_least_mean_squared_distance_by_brute_force_in_float64():
    torch.manual_seed(0)
    logits, distances = 2 * torch.randn(40, 5).double(), random_metric(9)
    task = ByDistance(5, "abcdefghi", distances)
    assert task.answer(logits).tolist() == brute(logits, distances[:, :5])
    assert set(task.answer(logits).tolist()) - set(range(5)), "some answers are no classes"
    assert task.outputs == 5


def test_where_all_labels_are_equally_far_apart_the_likeliest_class_is_the_answer():
    logits = torch.randn(200, 7)
    for scale in (1.0, 0.01):
        task = ByDistance(7, "abcdefg", scale * (1 - torch.eye(7)))
        assert torch.equal(task.answer(logits), logits.argmax(1))


def test_a_scale_of_distances_changes_no_answer():
    logits, distances = 2 * torch.randn(60, 4), random_metric(6)
    found = [ByDistance(4, "abcdef", c * distances).answer(logits) for c in (1.0, 1000.0)]
    assert torch.equal(*found)


def test_a_label_that_no_image_was_seen_of_lies_between_two_that_are_equally_likely():
    order = [0, 4, 1, 2, 3]
    task = ByDistance(2, "aebcd", line(5)[order][:, order])
    shares = torch.tensor([[0.5, 0.5], [0.99, 0.01], [0.74, 0.26]])
    assert [task.words(one, "ae") for one in task.answer(shares.log()).tolist()] == ["c", "a", "b"]


def test_squared_distance_falls_below_that_of_the_likeliest_class_on_a_line_with_gaps():
    torch.manual_seed(1)
    at = 10 * torch.rand(400)
    order = [*range(0, 11, 2), *range(1, 11, 2)]
    distances = line(11)[order][:, order]
    logits = -(at[:, None] - torch.arange(0, 11, 2)).square() / 2
    truth = torch.tensor([order.index(int(one)) for one in at.round()])
    tally = ByDistance(6, "abcdefghijk", distances).tally()
    for some in torch.arange(400).split(150):
        tally.add(Outputs(logits[some], truth[some], logits[some], some))
    tally.merge()
    scores = tally.scores()
    mean, likeliest = scores.detail["frechet_mean"], scores.detail["likeliest_class"]
    assert mean["squared_distance"] < 0.5 * likeliest["squared_distance"]
    assert mean["right"] > likeliest["right"] + 20
    answers = torch.tensor(brute(logits, distances[:, :6]))
    squares = distances[truth, answers].square()
    assert scores.main.value == pytest.approx(squares.mean().item())
    assert scores.main.error == pytest.approx(squares.std(correction=0).item() / 20)
    assert scores.loss == pytest.approx(
        frechet_costs(logits, distances[:, :6])[torch.arange(400), truth].mean().item()
    )


def test_a_batch_of_places_and_an_empty_set_are_refused():
    task = ByDistance(2, "ab", line(2))
    with pytest.raises(ValueError, match="one prediction a row"):
        task.answer(torch.zeros(1, 2, 3, 3))
    with pytest.raises(ValueError, match="no example could be scored"):
        task.tally().scores()
    with pytest.raises(ValueError, match="distances are square"):
        ByDistance(3, "ab", line(2))


def test_ways_in_a_graph_are_the_shortest_by_brute_force():
    torch.manual_seed(2)
    count = 7
    edges = [(a, b) for a in range(count) for b in range(count) if a != b and torch.rand(()) < 0.4]
    lengths = torch.rand(len(edges)).add(0.1).double().tolist()
    table = torch.full((count, count), math.inf, dtype=torch.float64).fill_diagonal_(0)
    for (a, b), length in zip(edges, lengths, strict=True):
        table[a, b] = table[b, a] = min(float(table[a, b]), length)
    for k in range(count):
        table = torch.minimum(table, table[:, k, None] + table[k])
    found = torch.from_numpy(edge_distances(count, edges, lengths))
    torch.testing.assert_close(found, table)


def written(folder, text: str):
    file = folder / "distances.csv"
    file.write_text(text)
    return file


def test_a_square_a_tree_and_a_graph_are_read_with_the_classes_first(tmp_path):
    square = read_label_distances(
        written(tmp_path, "label,ant,bee,cat\ncat,3,2.5,0\nant,0,1,3\nbee,1,0,2.5\n"),
        ["cat", "ant"],
    )
    assert square.names == ("cat", "ant", "bee")
    assert square.table.tolist() == [[0, 3, 2.5], [3, 0, 1], [2.5, 1, 0]]
    tree = "child,parent\ncat,mammal\ndog,mammal\nmammal,animal\nbee,insect\ninsect,animal\n"
    found = read_label_distances(written(tmp_path, tree), ["bee", "cat"])
    assert found.names == ("bee", "cat", "dog"), "leaves alone are answers"
    assert found.table.tolist() == [[0, 4, 4], [4, 0, 2], [4, 2, 0]]
    found = read_label_distances(written(tmp_path, tree), ["insect", "cat"])
    assert found.names == ("insect", "cat", "dog", "bee"), "and classes, wherever they are"
    graph = read_label_distances(
        written(tmp_path, "from,to,length\na,b,1\nb,c,2\na,c,5\n"), ["c", "a"]
    )
    assert (graph.names, graph.table[0].tolist()) == (("c", "a", "b"), [0, 3, 2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a square of distances"),
        ("x,a,a\na,0,1\n", "expected a square"),
        ("x,a,b\na,0,1\nb,1\n", "line 3: a row is one of the columns' names and 2 distances"),
        ("x,a,b\na,0,1\nc,1,0\n", "line 3: a row is one of the columns' names"),
        ("x,a,b\na,0,one\nb,1,0\n", "line 2: 'one' is no number from 0 up"),
        ("x,a,b\na,0,-1\nb,-1,0\n", "'-1' is no number from 0 up"),
        ("x,a,b\na,0,nan\nb,nan,0\n", "'nan' is no number from 0 up"),
        ("x,a,b\na,0,1\n", "has no row of b"),
        ("x,a,b\na,0,1\nb,2,0\n", "from a to b it is 1, and back 2"),
        ("x,a,b\na,1,1\nb,1,0\n", "a has the distance 1 from itself: expected 0"),
        ("x,a,c\na,0,1\nc,1,0\n", "no distances of the network's classes b: it has a, c"),
        ("child,parent\na,r\na,s\nb,r\n", "line 3: a has two parents, r and s"),
        ("child,parent\na,a\n", "an edge is between two names"),
        ("from,to,length\na,b,0\n", "its length a number above 0: got a,b,0"),
        ("from,to\na,c\nb,d\n", "no way leads from a to b"),
    ],
)
def test_a_fault_of_the_file_is_said_in_words(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        read_label_distances(written(tmp_path, text), ["a", "b"])


def test_no_file_is_said(tmp_path):
    with pytest.raises(ValueError, match="no distances between labels at"):
        read_label_distances(tmp_path / "none.csv", ["a"])
