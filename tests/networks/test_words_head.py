"""Classes made of texts: what is averaged, when anchors are made, and what is kept of them."""

from copy import deepcopy

import torch
from named_classes import toy_words
from torch.nn import functional as F

from adaptune.networks.joint import Words


def seen() -> torch.Tensor:
    return torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def embedded(head: Words) -> list[torch.Tensor]:
    joint = head.joint
    own = joint.tower[0].weight[head.ids].flatten(1) @ joint.other.weight.T
    return [one / one.norm() for one in own]


def test_classes_of_embeddings_are_their_means_at_length_one_in_float64():
    head = toy_words().double().eval()
    texts, x = embedded(head), seen()
    image = x @ head.joint.project.weight.T
    image = image / image.norm(dim=1, keepdim=True)
    for number, own in enumerate(([0, 1], [2], [3, 4, 5])):
        mean = sum(texts[one] for one in own)
        expected = (1 / 0.07) * image @ (mean / mean.norm())
        assert torch.allclose(head(x)[:, number], expected, atol=1e-12)


def test_classes_of_similarities_are_means_of_cosines_in_float64():
    head = toy_words(average="similarities").double().eval()
    x = seen()
    texts = embedded(head)
    image = x @ head.joint.project.weight.T
    for number, own in enumerate(([0, 1], [2], [3, 4, 5])):
        cosines = [F.cosine_similarity(image, texts[one][None]) for one in own]
        expected = head.joint.warmth * sum(cosines) / len(cosines)
        assert torch.allclose(head(x)[:, number], expected, atol=1e-12)
    each = head.each(x)
    assert torch.allclose(each[:, 3:].mean(1), head(x)[:, 2], atol=1e-12)


def test_classes_of_one_text_are_the_same_whatever_is_averaged():
    joint, ids = toy_words().joint.eval(), torch.tensor([[1, 2], [3, 4]])
    owner, x = torch.arange(2), seen().float()
    both = [Words(joint, ids, owner, average=one)(x) for one in ("embeddings", "similarities")]
    assert torch.equal(*both)


def test_texts_said_twice_as_often_and_classes_in_another_order_change_nothing_else():
    joint, x = toy_words().joint.eval(), seen().float()
    ids, owner = torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([0, 0, 1])
    one = Words(joint, ids, owner, average="similarities")(x)
    twice = Words(joint, ids.repeat(2, 1), owner.repeat(2), average="similarities")(x)
    assert torch.allclose(one, twice, atol=1e-5)
    turned = Words(joint, ids, 1 - owner, average="similarities")(x)
    assert torch.equal(turned, one.flip(1))


@torch.no_grad()
def test_anchors_follow_a_tower_that_was_trained_moved_or_loaded():
    head = toy_words().eval()
    x = seen().float()
    before = head(x)
    with torch.enable_grad():
        head.train()
        assert head.live
        optimizer = torch.optim.SGD(head.parameters(), 0.5)
        F.cross_entropy(head(x), torch.zeros(7, dtype=torch.int64)).backward()
        assert head.joint.tower[0].weight.grad.abs().sum() > 0
        optimizer.step()
    head.eval()
    after = head(x)
    assert not torch.allclose(before, after)
    fresh = Words(head.joint, head.ids, head.owner)
    assert torch.equal(after, fresh(x))
    own = head.joint.tower[0].weight.data
    head.joint.tower[0].weight.data = own * torch.randn(20, 1)  # as averages are handed back
    assert not torch.allclose(head(x), after)
    head.joint.tower[0].weight.data = own
    assert torch.equal(head(x), after)
    other = toy_words(seed=1).eval()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(x), after)


@torch.no_grad()
def test_a_state_written_while_anchors_were_old_gives_new_ones_where_it_is_read():
    head, x = toy_words().eval(), seen().float()
    head.joint.other.weight.mul_(torch.randn(4, 1))
    state = deepcopy(head.state_dict())  # whose anchors are those of the tower before
    other = toy_words(seed=1).eval()
    other.load_state_dict(state)
    assert torch.equal(other(x), head(x))


def test_a_tower_that_learns_nothing_is_asked_once():
    head = toy_words()
    head.joint.tower.requires_grad_(False)
    head.joint.other.requires_grad_(False)
    calls = []
    head.joint.tower.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        head(seen().float()).sum().backward()
    assert not head.live
    assert not calls
    assert head.joint.project.weight.grad is not None


@torch.no_grad()
def test_anchors_have_no_dropout_in_train_mode():
    head = toy_words()
    head.renew()
    assert torch.equal(head.anchors, toy_words().eval().anchors)
    assert head.joint.tower.training


def test_gradients_of_the_tower_are_those_of_the_formula():
    head = toy_words().double().eval()
    x, y = seen(), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    F.cross_entropy(head(x), y).backward()
    found = head.joint.tower[0].weight.grad.clone()
    head.zero_grad()
    texts = embedded(head)
    image = F.normalize(x @ head.joint.project.weight.T, dim=1)
    means = [texts[0] + texts[1], texts[2], texts[3] + texts[4] + texts[5]]
    anchors = torch.stack([one / one.norm() for one in means])
    F.cross_entropy(head.joint.warmth * image @ anchors.T, y).backward()
    assert torch.allclose(found, head.joint.tower[0].weight.grad, atol=1e-12)
    assert found.abs().sum() > 0
