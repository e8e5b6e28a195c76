"""Every deterministic certificate: radii, attacks against them, the ladder, the command, the bracket."""

from __future__ import annotations

import json
from typing import cast

import pytest
import torch
from torch import Tensor, nn

import robcert
from robcert.attacks import attacks
from robcert.certificates import Search, certificates
from robcert.certificates.best import LadderEvidence
from robcert.data import load_dataset
from robcert.errors import EvaluationError, UsageError
from robcert.network import from_module, load_model
from robcert.types import BOUND_NORMS, BoundNorm, Threat
from tests.certificates.attacked import attack, small_network
from tests.cli.conftest import Call, call  # noqa: F401  # pyright: ignore[reportUnusedImport]

METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")
"""Methods that are tight on linear networks."""
PROOFS = [name for name, one in certificates.items() if not one.probabilistic]
"""Everything that is registered and claims to be a proof."""


@pytest.mark.parametrize("seed", range(4))
def test_nothing_breaks_random_networks_inside_a_radius_of_any_method(seed: int) -> None:
    sound(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 304))
def test_nothing_breaks_more_random_networks_inside_a_radius_of_any_method(seed: int) -> None:
    sound(seed)


def sound(seed: int) -> None:
    module = small_network(seed)
    x = torch.rand(6, 8)
    with torch.no_grad():
        y = module(x).argmax(dim=1)
    model = from_module(module, (8,), 4)
    for norm in BOUND_NORMS:
        largest = torch.zeros(6, dtype=torch.float64)
        search, proven = Search(tolerance=0.05, seconds=0.5), set[str]()
        for method in PROOFS:
            try:
                found = certificates.get(method)(model, x, y, norm, search)
            except EvaluationError:
                continue
            proven.add(method)
            assert bool((found.radius <= found.radius_real).all())
            assert float(found.radius.max()) > 0
            largest = torch.maximum(largest, found.radius)
        assert {"gap", "best", *METHODS} <= proven
        for kind, iterations in (("pgd", 20), ("cw", 40)):
            if norm in attacks.get(kind).norms:
                distance = attack(model, x, y, norm, float(largest.max()), kind, iterations)
                assert bool((distance > largest).all()), (seed, norm, kind)


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_the_radius_of_a_linear_classifier_is_exact_up_to_the_tolerance(norm: BoundNorm) -> None:
    torch.manual_seed(0)
    model = from_module(nn.Linear(16, 5), (16,), 5, box=(-9.0, 10.0))
    x = torch.rand(8, 16)
    y = model.module(x).argmax(1)
    closed = certificates.get("gap")(model, x, y, norm, None)
    for method in METHODS:
        found = certificates.get(method)(model, x, y, norm, Search(tolerance=0.01))
        assert bool((found.radius <= closed.radius_real * (1 + 1e-9)).all())
        assert bool((found.radius >= closed.radius * 0.985).all()), method


class Chosen(nn.Module):
    """Two logits: 0.1, and the one pixel. float32 has no 0.1, so what it executes decides at another pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([False, True]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(cast(Tensor, self.mask), x.flatten(1).expand(-1, 2), 0.1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", PROOFS)
def test_the_executed_radius_knows_that_a_number_in_where_is_rounded(method: str, norm: BoundNorm) -> None:
    model = from_module(Chosen(), (1, 1, 1), 2)
    tied = torch.full((1, 1, 1, 1), 0.1)
    above = torch.nextafter(tied, torch.ones_like(tied))
    assert (int(model.module(tied).argmax()), int(model.module(above).argmax())) == (0, 1)
    distance = float(above.double() - tied.double())
    found = certificates.get(method)(model, above, torch.tensor([1]), norm, Search(eps=(8e-9,)))
    assert float(found.radius) < distance


def tiny(layers: int, weight: float) -> nn.Sequential:
    """A linear network of the sign of the sum of four entries, its products far below what squares in float64."""
    net = nn.Sequential(nn.Flatten(), *(nn.Linear(4, 4, bias=False) for _ in range(layers - 1)))
    net.append(nn.Linear(4, 2, bias=False))
    for parameter in net.parameters():
        nn.init.constant_(parameter, weight)
    with torch.no_grad():
        net[-1].weight[1] = -weight  # pyright: ignore[reportIndexIssue]
    return net


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("layers", "weight"), [(6, 1e-30), (5, 1e-36)])
@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_coefficients_whose_squares_underflow_are_counted(
    method: str, layers: int, weight: float, norm: BoundNorm
) -> None:
    model = from_module(tiny(layers, weight), (1, 2, 2), 2, box=(-1, 1))
    x = torch.full((1, 1, 2, 2), 0.1)
    exact = {"linf": 0.1, "l2": 0.2, "l1": 0.4}[norm]  # sum x = 0
    for share in (0.5, 1.01, 2.5):  # one at a time: the search ends with the first that is not certified
        search = Search(eps=(share * exact,), largest=False)
        found = certificates.get(method)(model, x, torch.tensor([0]), norm, search)
        assert (float(found.radius_real) > 0) == (share < 1)


@pytest.mark.parametrize("method", ["gap", "ibp", "crown"])
def test_weights_written_through_data_are_seen(method: str) -> None:
    """That writes no version of the tensor."""
    torch.manual_seed(0)
    model = from_module(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2), 2, box=(-9, 9))
    x = torch.rand(4, 1, 2, 2)
    search = Search(eps=(2.0,))
    certificates.get(method)(model, x, model.module(x).argmax(1), "l2", search)
    weight = next(p for p in model.module.parameters() if p.dim() == 2)
    other = torch.randn(2, 4) * 5
    for changed in (other, other.flip(1)):  # the same numbers in other places too
        weight.data[:] = changed
        y = model.module(x).argmax(1)
        found = certificates.get(method)(model, x, y, "l2", search)
        logits, row = model.module(x).detach().double(), (weight[0] - weight[1]).detach().double()
        exact = (logits[:, 0] - logits[:, 1]).abs() / row.norm()
        assert bool((found.radius <= exact).all())
        assert bool((found.radius_real >= 0.98 * exact.clamp_max(2.0))[exact > 1e-3].all())


def test_budgets_are_decided_as_the_largest_radius_says() -> None:
    model, data = load_model("digits-at"), load_dataset("digits", n=3)
    eps = (0.01, 0.03)
    decided = certificates.get("crown")(model, data.x, data.y, "linf", Search(eps=eps, largest=False))
    largest = certificates.get("crown")(model, data.x, data.y, "linf", Search(eps=eps, tolerance=0.1))
    assert bool((largest.radius >= decided.radius).all())
    for value in eps:
        assert torch.equal(decided.radius > value, largest.radius > value)
    assert bool((decided.radius > 0.01).any())


def test_the_best_certifies_what_any_method_certifies() -> None:
    model, data = load_model("digits-l2nnn"), load_dataset("digits", n=4)
    search = Search(eps=(0.02, 0.05), largest=False)
    best = certificates.get("best")(model, data.x, data.y, "linf", search)
    assert isinstance(best.evidence, LadderEvidence)
    ladder = {name for name, one in certificates.items() if one.cost is not None}
    assert set(best.evidence.steps) <= ladder
    for method in ("gap", *METHODS):
        alone = certificates.get(method)(model, data.x, data.y, "linf", search)
        for eps in search.eps:
            assert bool(((best.radius > eps) | ~(alone.radius > eps)).all()), method
    assert {kind for kind in best.binding if kind} <= ladder


def test_a_known_adversarial_distance_stops_the_search() -> None:
    model = from_module(nn.Linear(4, 2), (4,), 2)
    x = torch.rand(3, 4)
    y = model.module(x).argmax(1)
    above = torch.tensor([1e-3, 1e-3, 1e-3], dtype=torch.float64)
    found = certificates.get("ibp")(model, x, y, "linf", Search(above=above))
    assert bool((found.radius < above).all())


def test_the_command_has_a_column_for_each_method(call: Call) -> None:  # noqa: F811
    given = ("certify", "digits-l2nnn", "--norm", "linf", "--eps", "0.02,0.05", "--n", 6, "--method")
    answer = call(*given, "gap,crown-ibp,best", "--format", "json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert [m["method"] for m in record["models"]] == ["gap", "crown-ibp", "best"]
    *single, best = record["models"]
    for k in range(2):
        assert best["certified_correct"][k] >= max(m["certified_correct"][k] for m in single)
    assert best["steps"][0]["method"] == "gap"
    for k in range(2):
        assert sum(step["first"][k] for step in best["steps"]) == best["certified_correct"][k]
    text = call(*given, "gap,ibp").out
    assert "digits-l2nnn (gap)" in text and "digits-l2nnn (ibp)" in text
    head, times = next(line for line in text.splitlines() if "eps" in line and "gap" in line), "ms an image"
    assert "ibp" in head and times in text
    hurried = call(*given, "crown", "--time-per-image", "0").out
    assert "the time was up for 6 of 6 images, --time-per-image gives more: " in " ".join(hurried.split())


def test_smoothing_is_labelled_probabilistic_and_no_end_of_a_bracket(call: Call) -> None:  # noqa: F811
    given = ("certify", "digits-plain", "--eps", "0.1", "--n", 4, "--method", "smoothing", "--samples", 2000)
    answer = call(*given, "--sigma", 0.25)
    assert answer.code == 0, answer.err
    assert "probabilistic" in answer.out and "not about the network" in " ".join(answer.out.split())
    record = json.loads(call(*given, "--format", "json").out)
    assert record["models"][0]["confidence"] == 0.999
    model, data = load_model("digits-plain"), load_dataset("digits", n=4)
    with pytest.raises(UsageError, match="another classifier"):
        robcert.attack(model, data, Threat("l2", (0.1,)), "pgd:5", certify="smoothing")


def test_an_unknown_goal_is_refused(call: Call) -> None:  # noqa: F811
    answer = call("certify", "digits-plain", "--eps", "0.1", "--goal", "radios")
    assert answer.code == 2 and "radius" in answer.err


def test_the_bracket_of_an_attack_closes_with_the_best_certificate() -> None:
    torch.manual_seed(4)
    data = load_dataset("digits", n=30)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(data.x), data.y).backward()
        optimiser.step()
    model = from_module(net, (1, 8, 8), 10)
    left = {}
    for method in ("gap", "best"):
        record = robcert.attack(model, data, Threat("linf", (0.06,)), "pgd:20", certify=method).models[0]
        left[method] = sum(image.status == "open" for image in record.images)
    assert left["best"] == 0 < left["gap"]
