"""Confidence-gap certificates: closed forms, soundness against attacks, and what rounding costs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import robcert
from robcert.attacks import attacks
from robcert.bounds.lipschitz.network_bound import lipschitz_bound
from robcert.bracket import Certificate
from robcert.certificates import Certificates, Search, certificates, executed
from robcert.certificates.gap import radii
from robcert.data import load_dataset
from robcert.network import from_module, load_model
from robcert.search.problem import SearchProblem
from robcert.threats.kind import norm_of
from robcert.types import BOUND_NORMS, BoundNorm, LoadedModel, Threat
from tests.certificates.attacked import attack, small_network


def certify(model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm = "l2") -> Certificates:
    return certificates.get("gap")(model, x, y, norm)


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_a_linear_classifier_is_certified_up_to_its_exact_radius(norm: BoundNorm) -> None:
    torch.manual_seed(0)
    module = nn.Linear(64, 10)
    model = from_module(module, (64,), 10)
    x = torch.rand(200, 64)
    logits = module.double()(x.double()).detach()
    y = logits.argmax(dim=1)
    found = certify(model, x, y, norm)
    weight = module.weight.detach()
    gap = logits.gather(1, y.view(-1, 1)) - logits
    length = torch.stack([norm_of(norm).dual(weight[label] - weight) for label in y.tolist()])
    exact = (gap / length).masked_fill(nn.functional.one_hot(y, 10).bool(), float("inf")).amin(dim=1)
    # The logits of a nearly tied image are known less well, relative to the gap, than 1e-6.
    clear = exact > 1e-6
    assert int(clear.sum()) >= 190
    assert bool((found.radius_real < exact).all())
    assert bool((found.radius_real[clear] >= exact[clear] * (1 - 1e-6)).all())
    assert bool((found.radius <= found.radius_real).all())
    assert set(found.binding) == {"rows"}


def test_constants_that_are_too_small_by_one_part_in_a_hundred_thousand_are_caught() -> None:
    """The check above can fail."""
    torch.manual_seed(0)
    module = nn.Linear(64, 10)
    x = torch.rand(50, 64)
    y = module(x).argmax(dim=1)
    found = certify(from_module(module, (64,), 10), x, y)
    distance = attack(from_module(module, (64,), 10, box=(-10.0, 11.0)), x, y, "l2", 0.2, "cw", 1000)
    assert bool((found.radius < distance).all())
    assert not bool((found.radius_real * 1.05 < distance).all())


def test_wrong_and_tied_images_have_radius_zero() -> None:
    module = nn.Linear(4, 3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
        module.bias.zero_()
    x = torch.tensor([[0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0], [0.1, 0.9, 0, 0]])
    found = certify(from_module(module, (4,), 3), x, torch.tensor([0, 2, 0]))
    assert found.radius_real.tolist()[0] == 0, "logits 0 and 1 tie"
    assert found.radius.tolist()[0] == 0
    assert found.radius.tolist()[1] > 0.5
    assert found.radius_real.tolist()[2] == 0, "the answer is wrong"
    assert found.binding[2] == ""


def test_without_a_rounding_bound_the_radii_of_real_arithmetic_stand() -> None:
    model = load_model("digits-l2nnn")
    data = load_dataset("digits", n=40)
    whole = certify(model, data.x, data.y)
    try:
        torch.set_float32_matmul_precision("high")
        found = certify(model, data.x, data.y)
        record = robcert.attack(model, data, Threat("l2", (0.1,)), "pgd:1", certify="gap").models[0]
    finally:
        torch.set_float32_matmul_precision("highest")
    assert whole.refused == ""
    assert "'high'" in found.refused
    assert float(found.radius.max()) == 0
    assert torch.equal(found.radius_real, whole.radius_real)
    assert found.binding == whole.binding
    assert "rounding_float32" not in found.constants
    assert record.certificate is not None
    assert record.certificate.correct == 0
    (warning,) = [w for w in record.warnings if w.name == "no-certificate"]
    assert "'high'" in warning.message


def test_the_graph_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from robcert.graph import cache

    calls: list[str] = []
    read = cache.read_graph
    monkeypatch.setattr(cache, "read_graph", lambda *given, **named: calls.append("") or read(*given, **named))
    torch.manual_seed(0)
    model = from_module(nn.Linear(8, 3), (8,), 3)
    x = torch.rand(5, 8)
    for norm in BOUND_NORMS:
        certify(model, x, torch.zeros(5, dtype=torch.int64), norm)
    assert len(calls) == 1


def test_slack_only_shrinks_radii() -> None:
    model = load_model("digits-l2nnn")
    data = load_dataset("digits", n=100)
    bound = lipschitz_bound(model, "l2")
    with torch.no_grad():
        logits = model.module(data.x).double()
    correct = logits.argmax(dim=1) == data.y
    before, _ = radii(logits, data.y, correct, bound, 0.0)
    after, _ = radii(logits, data.y, correct, bound, 0.01)
    assert bool((after <= before).all())
    assert bool((after[before > 0.1] < before[before > 0.1]).all())


def test_pairwise_constants_never_lose_against_the_largest_logit_constant(capsys: pytest.CaptureFixture[str]) -> None:
    """Step 2, line 6: radii are at least (gap - rounding) / (2 max L)."""
    model = load_model("digits-l2nnn")
    data = load_dataset("digits")
    found = certify(model, data.x, data.y)
    correct = found.prediction == data.y
    slack = 2 * found.constants["rounding_float32"] + 2 * found.constants["rounding_float64"]
    simple = ((found.gap - slack) / (2 * found.constants["lipschitz_logit"])).clamp_min(0)
    assert bool((found.radius[correct] >= simple[correct] * (1 - 1e-6)).all())
    gain = float((found.radius[correct].median() / simple[correct].median()) - 1)
    with capsys.disabled():
        sys.stdout.write(f"\npairwise constants: median radius {100 * gain:.1f}% above g / (2 max L)\n")
    assert float((found.radius > 0.1).double().mean()) >= 0.30
    assert float((found.radius > 0.25).double().mean()) >= 0.10


@pytest.mark.drawn(3)
@pytest.mark.parametrize("name", ["digits-l2nnn", "digits-plain", "digits-at"])
@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_nothing_breaks_the_zoo_inside_a_certified_radius(name: str, norm: BoundNorm) -> None:
    model = load_model(name)
    data = load_dataset("digits", n=40, seed=3)
    found = certify(model, data.x, data.y, norm)
    rows = (found.radius > 0).nonzero().flatten()
    assert len(rows) > 0
    for kind, iterations in (("pgd", 50), ("cw", 100)):
        if norm not in attacks.get(kind).norms:
            continue
        distance = attack(model, data.x[rows], data.y[rows], norm, 0.5, kind, iterations)
        assert bool((distance > found.radius[rows]).all())


def sound(seed: int) -> None:
    module = small_network(seed)
    x = torch.rand(12, 8)
    with torch.no_grad():
        y = module(x).argmax(dim=1)
    model = from_module(module, (8,), 4)
    for norm in BOUND_NORMS:
        found = certify(model, x, y, norm)
        assert float(found.radius.max()) > 0
        reach = float(found.radius.max())
        for kind, iterations in (("pgd", 20), ("cw", 40)):
            if norm in attacks.get(kind).norms:
                distance = attack(model, x, y, norm, reach, kind, iterations)
                assert bool((distance > found.radius).all()), (seed, norm, kind)


@pytest.mark.drawn(4)
@pytest.mark.parametrize("seed", range(24))
def test_nothing_breaks_random_networks_inside_a_certified_radius(seed: int) -> None:
    sound(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24, 200))
def test_nothing_breaks_more_random_networks_inside_a_certified_radius(seed: int) -> None:
    sound(seed)


def test_the_bracket_holds_for_every_image() -> None:
    model = load_model("digits-l2nnn")
    data = load_dataset("digits", n=60)
    threat = Threat("l2", (0.1, 0.25, 0.5))
    record = robcert.attack(model, data, threat, "cw:50,pgd:20", certify="gap").models[0]
    assert record.certificate is not None
    for k, eps in enumerate(threat.eps):
        certified = record.certificate.correct[k]  # type: ignore[index]
        attacked = record.legs[-1].attacked_correct[k]  # type: ignore[index]
        assert certified <= attacked
        for image in record.images:
            assert image.radius is not None
            if image.status[k] == "certified":  # type: ignore[index]
                assert image.radius > eps
            if image.distance is not None and image.attack is not None:
                assert image.radius < image.distance
    attacked = {image.index for image in record.images if image.attack is not None}
    beyond = {image.index for image in record.images if (image.radius or 0) > 0.5}
    assert not attacked & beyond, "an image certified at every budget is not attacked"


def test_a_contradiction_ends_the_run_with_both_sides_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is wrong on purpose."""
    from robcert.errors import EvaluationError
    from robcert.runs import proof

    model = load_model("digits-plain")
    data = load_dataset("digits", n=20)

    def lies(method: str, model: LoadedModel, search: SearchProblem, seconds: float) -> proof.Attempt:
        for position in range(len(data)):
            search.bracket.update(position, Certificate(0.9, 0.9, method))
        return proof.Attempt(method)

    monkeypatch.setattr("robcert.runs.runner.prove", lies)
    with pytest.raises(EvaluationError, match="inside certified radii") as raised:
        robcert.attack(model, data, Threat("l2", (1.0,)), "pgd:20", certify="gap", run=tmp_path / "run")
    assert raised.value.exit_code == 3
    assert (tmp_path / "run" / "contradiction-digits-plain.safetensors").exists()


def test_certified_images_do_not_speak_for_a_plateau() -> None:
    model = load_model("digits-l2nnn")
    data = load_dataset("digits", n=60)
    record = robcert.attack(model, data, Threat("l2", (0.5,)), "pgd:5,pgd:50", certify="gap").models[0]
    assert record.plateau is not None
    assert record.certificate is not None
    standing = record.legs[0].attacked_correct
    assert record.plateau.entered == standing - record.certificate.correct == record.legs[1].entered  # type: ignore[operator]


def rounds_a_lot() -> LoadedModel:
    """A network whose rounding, as norms bound it, is worth a part of its gaps."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)]
    with torch.no_grad():
        for layer in layers[:-1:2]:
            assert isinstance(layer, nn.Linear)
            layer.weight *= 30
    return from_module(nn.Sequential(*layers), (64,), 10)


def test_rounding_is_bounded_in_the_ball_only_where_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an attack asks costs nothing more on networks whose radii do not reach its budgets."""
    model, x = rounds_a_lot(), torch.rand(40, 64)
    y = model.module(x).argmax(1)
    gap = certificates.get("gap")
    calls: list[int] = []
    bounded = executed.relax
    monkeypatch.setattr(executed, "relax", lambda *given: calls.append(len(given[1])) or bounded(*given))
    whole = gap(model, x, y, "l2")
    assert calls and float((whole.radius / whole.radius_real).median()) > 0.98
    calls.clear()
    largest = float(whole.radius_real.max())
    coarse = gap(model, x, y, "l2", Search(eps=(largest * 1.01,), largest=False))
    assert not calls and float((coarse.radius / whole.radius_real).median()) < 0.95
    between = (coarse.radius / 2 + coarse.radius_real / 2)[int((coarse.radius_real - coarse.radius).argmax())]
    decided = gap(model, x, y, "l2", Search(eps=(float(between),), largest=False))
    undecided = (coarse.radius <= between) & (coarse.radius_real > between)
    assert calls[0] == int(undecided.sum()) > 0
    assert bool((decided.radius > between)[undecided].any())
    assert torch.equal(decided.radius[~undecided], coarse.radius[~undecided])
