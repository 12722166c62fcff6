"""TPT: one step down the entropy of the mean over sure views, for each image alone."""

from __future__ import annotations

import pytest
import torch
from streams import answers, rows_of
from toy import CLASSES, images, network
from words import words_network, words_of

from adaptune.methods.test_time import tpt
from adaptune.methods.test_time.tpt import TPT
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def target(count: int = 4) -> torch.Tensor:
    return images(count, seed=31).tensors[0].double()


def made(**options: object) -> TPT:
    net = words_network().double()
    net.head.renew()
    return TPT(net, TASK, **options).double().eval()


@pytest.mark.parametrize("confident", [0.4, 1.0])
def test_answers_are_the_formula_image_by_image_in_float64(monkeypatch, confident):
    method, x = made(lr=0.2, views=4, confident=confident), target()
    shifts = iter([0.0, 0.5, 1.0, 1.5])
    monkeypatch.setattr(tpt, "random_view", lambda x: x + next(shifts))
    found = method(x)
    net = method.net
    for number, one in enumerate(x):
        views = torch.stack([one, *(one + shift for shift in (0.0, 0.5, 1.0, 1.5))])
        vector = method.prompts.vectors.detach().clone().requires_grad_()

        def said(seen, vector):
            texts = net.head.centred(net.head.read(vector.expand(6, -1, -1)))
            own = net.head.joint.project(net.body(seen).detach())
            own = own / own.norm(dim=1, keepdim=True)
            return net.head.joint.warmth * own @ texts.T

        p = said(views, vector).softmax(1)
        doubts = -(p * p.log()).sum(1)
        sure = doubts.argsort()[: int(confident * 5)]
        mean = p[sure].mean(0)
        [slope] = torch.autograd.grad(-(mean * mean.log()).sum(), vector)
        adam_vector = torch.nn.Parameter(vector.detach().clone())
        adam = torch.optim.Adam([adam_vector], lr=0.2)
        adam_vector.grad = slope
        adam.step()
        wanted = said(views[:1], adam_vector.detach())[0]
        torch.testing.assert_close(found[number], wanted, rtol=1e-7, atol=1e-9)


def test_a_step_makes_images_surer_and_nothing_stays():
    method, x = made(lr=0.05, views=0, confident=1.0), target(24)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    doubts = [tpt.entropy(one).mean() for one in (method.net(x), method(x))]
    assert doubts[1] < doubts[0]
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_an_image_is_answered_alone_as_in_a_batch_and_without_a_step_as_by_the_network():
    method, x = made(views=0), target(6)
    told = answers(method, rows_of(x, 6))
    assert torch.allclose(told, answers(method, rows_of(x, 1)))
    method.lr = 0.0
    assert torch.allclose(answers(method, rows_of(x, 3)), method.net(x))


def test_vectors_of_coop_are_tuned_where_there_are_some():
    from adaptune.methods.supervised.coop import CoOp

    for per_class in (False, True):
        net = CoOp(words_network(), TASK, context=3, per_class=per_class).net
        method = TPT(net.double(), TASK, views=0).double().eval()
        x = target(3)
        method.lr = 0.0
        assert torch.allclose(method(x), net(x))


def test_texts_that_begin_in_different_words_and_what_cannot_be_are_refused():
    net = words_of(network())
    net.head.ids[0, 0] = 10
    with pytest.raises(ValueError, match="begin with the same words"):
        TPT(net, TASK)
    for wrong in ({"confident": 0.0}, {"views": -1}, {"context": 0}):
        with pytest.raises(ValueError, match="confident a share"):
            TPT(words_network(), TASK, **wrong)
