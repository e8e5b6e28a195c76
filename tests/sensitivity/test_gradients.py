"""Every statistic against the dense Jacobian of torch.autograd.functional and its singular values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robcert.sensitivity import gradients
from robcert.sensitivity.gradients import STATISTICS, measure
from robcert.types import BOUND_NORMS, BoundNorm, dual

ORDER = {"l1": 1, "l2": 2, "linf": float("inf")}


def small(kind: str, classes: int) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(classes)
    if kind == "linear":
        return nn.Linear(12, classes), (12,)
    if kind == "tanh":
        return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, classes)), (12,)
    body = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, classes)]
    return nn.Sequential(*body), (2, 6, 6)


def dense(net: nn.Module, x: Tensor) -> Tensor:
    """(n, classes, d), one image after the other."""
    rows: list[Any] = [torch.autograd.functional.jacobian(lambda p: net(p[None])[0], one) for one in x]
    return torch.stack(rows).flatten(2)


@pytest.mark.parametrize("classes", [2, 5, 80])
@pytest.mark.parametrize("kind", ["linear", "tanh", "conv"])
def test_norms_of_the_jacobian_are_those_of_the_dense_matrix(kind: str, classes: int) -> None:
    net, shape = small(kind, classes)
    x = torch.rand(7, *shape)
    matrix = dense(net, x).double()
    found = measure(net, x, None, STATISTICS)
    singular = torch.linalg.svdvals(matrix)
    for name, exact in (
        ("spectral", singular[:, 0]),
        ("frobenius", singular.square().sum(1).sqrt()),
        ("row", matrix.norm(dim=2).amax(1)),
    ):
        torch.testing.assert_close(found[name].double(), exact, rtol=1e-5, atol=0)
    assert (classes > gradients.GRAM) == (classes == 80), "80 classes go by power iteration"


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_operator_norms_from_a_norm_to_itself(norm: BoundNorm) -> None:
    net, shape = small("conv", 4)
    x = torch.rand(5, *shape)
    matrix = dense(net, x).double()
    found = measure(net, x, None, {"operator", "row-dual"}, norm)
    exact = torch.linalg.matrix_norm(matrix, ord=ORDER[norm])
    torch.testing.assert_close(found["operator"].double(), exact, rtol=1e-5, atol=0)
    rows = torch.linalg.vector_norm(matrix, ord=ORDER[dual(norm)], dim=2).amax(1)
    torch.testing.assert_close(found["row-dual"].double(), rows, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["tanh", "conv"])
def test_probabilities_loss_and_margin_against_their_own_gradients(kind: str) -> None:
    net, shape = small(kind, 5)
    net = net.double()
    x = torch.rand(6, *shape, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 4, 0])
    names = {"probability", "margin", "margin-dual", "loss", "gap", "label", "other", "loss-l1", "loss-l2", "loss-linf"}
    found = measure(net, x, y, names, "linf")
    matrix = dense(nn.Sequential(net, nn.Softmax(dim=1)), x)
    torch.testing.assert_close(found["probability"], matrix.norm(dim=2).amax(1))
    for k in range(6):
        point = x[k : k + 1].clone().requires_grad_(True)
        logits = net(point)
        loss = nn.functional.cross_entropy(logits, y[k : k + 1])
        (gradient,) = torch.autograd.grad(loss, point, retain_graph=True)
        for q, order in ORDER.items():
            assert float(found[f"loss-{q}"][k]) == pytest.approx(float(gradient.flatten().norm(order)), rel=1e-9)
        assert float(found["loss"][k]) == pytest.approx(float(loss.detach()), rel=1e-9)
        others = [j for j in range(5) if j != int(y[k])]
        best = max(others, key=lambda j: float(logits[0, j].detach()))
        assert int(found["other"][k]) == best
        gap = logits[0, int(y[k])] - logits[0, best]
        (slope,) = torch.autograd.grad(gap, point)
        assert float(found["gap"][k]) == pytest.approx(float(gap.detach()), rel=1e-9)
        assert float(found["margin"][k]) == pytest.approx(float(slope.norm()), rel=1e-9)
        assert float(found["margin-dual"][k]) == pytest.approx(float(slope.abs().sum()), rel=1e-9)


def test_without_labels_the_networks_own_answers_are_used() -> None:
    net, shape = small("tanh", 4)
    x = torch.rand(9, *shape)
    own = measure(net, x, None, {"loss-l2", "label"})
    given = measure(net, x, net(x).argmax(dim=1), {"loss-l2", "label"})
    assert torch.equal(own["loss-l2"], given["loss-l2"])
    assert torch.equal(own["label"], given["label"])


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    net, shape = small("conv", 5)
    net = net.double()
    x = torch.rand(11, *shape, dtype=torch.float64)
    whole = measure(net, x, None, STATISTICS)
    monkeypatch.setattr(gradients, "_BATCH", 3)
    parts = measure(net, x, None, STATISTICS)
    for name in STATISTICS:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-10, atol=0)
    assert measure(net, x[:0], None, {"row"})["row"].shape == (0,)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_the_scale_of_the_logits_carries_over(scale: float) -> None:
    net, shape = small("linear", 5)
    x = torch.rand(3, *shape)
    one = measure(net, x, None, {"spectral", "row"})
    scaled = measure(nn.Sequential(net, Scale(scale)), x, None, {"spectral", "row"})
    for name in ("spectral", "row"):
        torch.testing.assert_close(scaled[name], one[name] * scale, rtol=1e-5, atol=0)


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor
