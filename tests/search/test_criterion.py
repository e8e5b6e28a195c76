"""What counts as success is one value: attacks, oracle and verifier ask it, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import random_linear, stage_over, toy

from robcert.attacks import attacks
from robcert.bracket import Bracket
from robcert.criteria import Criterion
from robcert.criteria.misclassified import MISCLASSIFIED, margin, others_max
from robcert.search.verifier import Verifier
from robcert.types import Batch, Threat

TARGET = 3


def towards_target(logits: Tensor, y: Tensor) -> Tensor:
    """The logit of one class over all others, whatever the label."""
    target = torch.full_like(y, TARGET)
    return -margin(logits, target)


CHOSEN = Criterion("answered with class 3", towards_target)


def attacked(name: str, criterion: Criterion) -> tuple[nn.Linear, Bracket, Tensor, Tensor]:
    net, x, y = random_linear(16, 5, seed=0)
    x, y = x[y != TARGET], y[y != TARGET]
    options = {"iterations": 40} | ({"objective": "margin"} if name in ("pgd", "ddn") else {})
    images, attack, threat = Batch(x, y, torch.arange(len(y))), attacks.get(name)(**options), Threat("l2", (2.0,))
    stage = stage_over(toy(net, (16,), 5), attack, name, images, threat, "minimize", slots=64, criterion=criterion)
    stage.run()
    return net, stage.bracket, x, y


@pytest.mark.parametrize("name", ["cw", "fmn", "pgd", "ddn", "boundary"])
def test_an_attack_finds_what_the_criterion_asks_for(name: str) -> None:
    """Each answer is the chosen class, and no nearer than each of the half-spaces in which that beats another one."""
    net, chosen, x, y = attacked(name, CHOSEN)
    wrong = attacked(name, MISCLASSIFIED)[1]
    assert len(chosen.found()) >= (len(y) // 2 if name != "boundary" else 1)
    assert {example.label for example in chosen.found().values()} == {TARGET}
    assert len({example.label for example in wrong.found().values()}) > 1, "the comparison means something"
    weight, logits = net.weight.detach().double(), x.double() @ net.weight.double().T + net.bias.double()
    apart = (weight - weight[TARGET]).norm(dim=1)
    apart[TARGET] = float("inf")
    assert bool((chosen.distance >= ((logits - logits[:, TARGET, None]) / apart).amax(1)).all())


def test_the_verifier_accepts_by_the_criterion_alone() -> None:
    net, x, y = random_linear(16, 5, seed=1)
    model, threat = toy(net, (16,), 5), Threat("l2", (100.0,))
    moved = (x + 0.8 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    logits = net(moved)
    for criterion, success in ((CHOSEN, logits.argmax(1) == TARGET), (MISCLASSIFIED, logits.argmax(1) != y)):
        clear = criterion.margin(logits, y).abs() > 1e-4
        accepted = Verifier(model, threat, 64, criterion=criterion)(moved, x, y).accepted
        assert 0 < int(success.sum()) < len(y)
        assert torch.equal(accepted[clear], success[clear])


def test_the_margin_of_misclassification_is_positive_where_the_answer_is_wrong() -> None:
    logits, y = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.5]]), torch.tensor([0, 0])
    assert MISCLASSIFIED.margin(logits, y).tolist() == [-1.0, 1.0]
    assert others_max(logits, y).tolist() == [1.0, 2.0]
