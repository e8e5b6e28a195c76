"""Every kind of requirement, on both sides of what is measured in another way."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import robcert
from robcert.bounds.lipschitz.network_bound import lipschitz_bound
from robcert.certificates import certificates
from robcert.errors import EvaluationError
from robcert.network import from_module
from robcert.policy.evaluate import How, evaluate
from robcert.policy.kinds import Subject, kinds
from robcert.policy.load import load_policy
from robcert.policy.reason import reason_of_counts, reason_of_pairs
from robcert.policy.record import CountsRecord, GateRecord, PairsRecord, RequirementRecord
from robcert.policy.schema import Requirement
from robcert.policy.verdict import Grade
from robcert.reports.gate.words import spent
from robcert.runs.stop_condition import OUT_OF_TIME
from robcert.sensitivity.jacobian import sensitivity


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(robcert.load_model("digits-l2nnn"), robcert.load_dataset("digits", n=60), sample=False)


def _measure(subject: Subject, kind: str, limit: float, **more: Any) -> tuple[Grade, float]:
    found: Any = kinds.get(kind)
    result = found.measure(Requirement(kind=kind, limit=limit, name="x", **more), subject)
    return result.grade, result.value


def _beside(value: float) -> tuple[float, float]:
    return value * (1 - 1e-9), value * (1 + 1e-9)


def test_all_kinds_of_the_issue_are_there() -> None:
    assert set(kinds.names()) == {
        "attacked_accuracy", "attacked_accuracy_drop", "certified_accuracy", "detection_rate", "lipschitz",
        "max_jacobian", "mean_gap", "median_distance", "natural_accuracy",
    }  # fmt: skip


def test_natural_and_certified_accuracy_and_the_mean_gap(subject: Subject) -> None:
    data, module = subject.data, subject.model.module
    with torch.no_grad():
        two = module(data.x).double().topk(2, dim=1)
    right = int((two.indices[:, 0] == data.y).sum())
    proven = certificates.get("gap")(subject.model, data.x, data.y, "l2")
    certified = int((proven.radius > 0.25).sum())
    gap = float((two.values[:, 0] - two.values[:, 1]).mean())
    assert 0 < certified < right <= 60
    assert _measure(subject, "natural_accuracy", right / 60) == ("proven", right / 60)
    assert _measure(subject, "natural_accuracy", min(1.0, (right + 1) / 60))[0] == (
        "failed" if right < 60 else "proven"
    )
    threat = {"norm": "l2", "eps": 0.25}
    assert _measure(subject, "certified_accuracy", certified / 60, **threat) == ("proven", certified / 60)
    assert _measure(subject, "certified_accuracy", (certified + 1) / 60, **threat)[0] == "failed"
    low, high = _beside(gap)
    assert _measure(subject, "mean_gap", low - 1e-5)[0] == "proven"
    assert _measure(subject, "mean_gap", high + 1e-5)[0] == "failed"
    sampled = Subject(subject.model, data, sample=True)
    assert _measure(sampled, "mean_gap", low - 1e-5)[0] == "empirical", "a mean of a sample proves nothing"


def test_lipschitz_and_the_largest_jacobian(subject: Subject) -> None:
    bound = lipschitz_bound(subject.model, "l2").whole
    low, high = _beside(bound)
    assert _measure(subject, "lipschitz", high, norm="l2")[0] == "proven"
    assert _measure(subject, "lipschitz", low, norm="l2")[0] == "failed"
    # The largest singular value of the Jacobian that autograd gives, image by image.
    rows = torch.autograd.functional.jacobian(
        lambda x: subject.model.module(x).sum(0), subject.data.x[:20], vectorize=True
    )
    sigma = torch.linalg.svdvals(rows.movedim(0, 1).flatten(2)).amax(1).max()
    few = Subject(
        subject.model,
        robcert.Dataset(
            **{
                **vars(subject.data),
                "x": subject.data.x[:20],
                "y": subject.data.y[:20],
                "index": subject.data.index[:20],
            }
        ),
        sample=True,
    )
    assert sensitivity(few.model, few.data, "l2").upper.measured_whole == pytest.approx(float(sigma), rel=1e-4)
    assert _measure(few, "max_jacobian", float(sigma) * 1.001, norm="l2")[0] == "empirical"
    assert _measure(few, "max_jacobian", float(sigma) * 0.999, norm="l2")[0] == "failed"
    assert _measure(few, "max_jacobian", bound * 1.001, norm="l2")[0] == "proven"


class _Silent(nn.Module):
    """NaN on every image whose mean is below that of all digits, roughly half of them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + torch.log(x.flatten(1).mean(1, keepdim=True) - 0.3).mul(0.0)


@pytest.mark.parametrize("kind", ["natural_accuracy", "mean_gap"])
def test_nan_never_passes(subject: Subject, kind: str) -> None:
    model = from_module(_Silent(subject.model.module), subject.model.input_shape, 10)
    assert 0 < int(model.module(subject.data.x).isnan().any(1).sum()) < 60
    with pytest.raises(EvaluationError, match="NaN or infinity"):
        _measure(Subject(model, subject.data, sample=False), kind, 0.5)


def test_a_detector_is_judged_by_the_attack_that_it_detects_least() -> None:
    plain = Subject(robcert.load_model("digits-plain"), robcert.load_dataset("digits", n=120), sample=True)
    more = {"false_positive_rate": 0.1, "plan": "cw:30,evasive-cw:30"}
    found: Any = kinds.get("detection_rate")
    result = found.measure(Requirement(kind="detection_rate", limit=0.999, name="x", **more), plain)
    assert "cw:30" in result.note
    assert "evasive-cw:30" in result.note
    assert "attack on the detector" not in result.note
    assert result.grade in ("failed", "inconclusive")
    blind = found.measure(
        Requirement(kind="detection_rate", limit=0.05, name="x", false_positive_rate=0.1, plan="cw:30"), plain
    )
    assert "no attack on the detector itself was run" in blind.note
    assert blind.value >= result.value


def test_the_attacks_on_a_detector_are_counted(tmp_path: Path) -> None:
    text = '[[gate.require]]\nname = "seen"\ndetection_rate = 0.5\nfalse_positive_rate = 0.1\nplan = "pgd:5"\n'
    record = _record(tmp_path, text)
    one = record.requirements[0]
    # Half of the images are attacked; pgd with "minimize" makes at least one search step of five iterations each.
    assert (one.bounds is not None, one.confidence) == (True, 0.95), (
        "the examples are a sample, whatever the images are"
    )
    assert one.forwards >= 5 * 35
    assert one.backwards >= 5 * 35
    assert spent(record).startswith(f"{one.forwards:,} forwards and {one.backwards:,} backwards")


def test_a_detector_has_the_time_budget_too(tmp_path: Path) -> None:
    ticks = iter(np.arange(0.0, 1e6, 10.0))
    text = (
        'time_budget = "15s"\n[[gate.require]]\nname = "seen"\ndetection_rate = 0.5\nfalse_positive_rate = 0.1\n'
        'plan = "cw:100,evasive-cw:1k"\n'
    )
    found = _gate(tmp_path, text, clock=lambda: float(next(ticks)))["seen"]
    assert (found.verdict, found.value) == ("inconclusive", None)
    assert found.reason == f"the detection rate is not known; {OUT_OF_TIME}"


def _record(tmp_path: Path, text: str, model: str = "digits-l2nnn", n: int = 80, **how: Any) -> GateRecord:
    path = tmp_path / "p.toml"
    path.write_text(f'[gate]\nmodels = ["{model}"]\ndata = "digits"\nn = {n}\n' + text)
    return evaluate(load_policy(path), How(runs=None, **how))


def _gate(tmp_path: Path, text: str, **how: Any) -> dict[str, RequirementRecord]:
    return {one.name: one for one in _record(tmp_path, text, **how).requirements}


def test_the_median_distance_is_the_share_of_one_half(tmp_path: Path) -> None:
    """The same verdict as an accuracy of 1/2 at that budget; decided by certificates where they reach it."""
    found = _gate(
        tmp_path,
        '[[gate.require]]\nname = "near"\nnorm = "l2"\nmedian_distance = 0.05\n'
        '[[gate.require]]\nname = "far"\nnorm = "l2"\nmedian_distance = 3.0\nplan = "pgd:10"\n'
        '[[gate.require]]\nname = "half"\nnorm = "l2"\neps = 3.0\nattacked_accuracy = 0.5\nplan = "pgd:10"\n',
    )
    assert (found["near"].verdict, found["near"].backwards) == ("proven", 0)
    assert found["far"].verdict == found["half"].verdict == "failed"
    assert found["far"].run == found["half"].run, "one run answers both"
    assert found["far"].counts == found["half"].counts


@pytest.mark.parametrize("n", [1, 2, 3, 59, 60])
def test_exactly_half_of_all_images_is_no_median(subject: Subject, n: int) -> None:
    """The median of the distances exceeds d exactly if more than half of them do."""
    data = dataclasses.replace(subject.data, x=subject.data.x[:n], y=subject.data.y[:n], index=subject.data.index[:n])
    kind: Any = kinds.get("median_distance")
    asked = Requirement(kind="median_distance", limit=0.5, name="x", norm="l2")
    question = kind.question(asked, Subject(subject.model, data, sample=False))
    for standing in range(n + 1):
        right = np.arange(n) < standing
        median_exceeds = bool(np.sort(right)[(n - 1) // 2])
        assert question.shown(right) == median_exceeds, standing
        assert question.excluded(right) != median_exceeds, standing


def test_an_early_end_saves_work_and_changes_no_verdict(tmp_path: Path) -> None:
    text = "".join(
        f'[[gate.require]]\nname = "{limit}"\nnorm = "l2"\neps = 1.0\nattacked_accuracy = {limit}\n'
        'plan = "pgd:5,pgd:20x2"\n'
        for limit in (0.95, 0.3, 0.05)
    )
    early, whole = _gate(tmp_path, text), _gate(tmp_path, text, full=True)
    assert {name: one.verdict for name, one in early.items()} == {name: one.verdict for name, one in whole.items()}
    one = text.replace(text[text.index('[[gate.require]]\nname = "0.3"') :], "")
    short, full = _record(tmp_path, one), _record(tmp_path, one, full=True)
    assert short.requirements[0].forwards < full.requirements[0].forwards == whole["0.95"].forwards
    # A full run knows where it could have ended: there the short one did.
    assert (short.runs[0].settled, full.runs[0].settled) == (None, short.runs[0].forwards)
    assert f"{full.runs[0].forwards:,} forwards of whole plans, {short.runs[0].forwards:,} settled" in spent(full)
    assert "1 of 1 runs of attacks ended early" in spent(short)


def test_without_time_nothing_is_claimed(tmp_path: Path) -> None:
    ticks = iter(np.arange(0.0, 1e6, 10.0))
    text = (
        'time_budget = "15s"\n[[gate.require]]\nname = "x"\nnorm = "l2"\neps = 0.5\nattacked_accuracy = 0.4\n'
        'plan = "cw:1k"\n'
    )
    found = _gate(tmp_path, text, clock=lambda: float(next(ticks)))["x"]
    assert found.verdict == "inconclusive"
    assert OUT_OF_TIME in found.reason
    assert found.needed is None


def test_a_sweep_that_still_falls_is_told(tmp_path: Path) -> None:
    text = (
        '[[gate.require]]\nname = "{}"\nnorm = "l2"\neps = 0.6\nattacked_accuracy = 0.3\nplan = "pgd:1,10"\n'
        "options.pgd.step_size = 0.05\n"
    )
    both = text.format("told") + text.format("required") + "require_converged = true\n"
    found = _gate(tmp_path, both)
    assert (found["told"].verdict, found["told"].converged) == ("empirical", False)
    assert "still falling" in found["told"].reason
    assert found["required"].verdict == "failed"


def test_a_sweep_that_other_attacks_dispute_is_told(tmp_path: Path) -> None:
    text = (
        '[[gate.require]]\nname = "{}"\nnorm = "l2"\neps = 0.2\nattacked_accuracy = 0.2\n'
        'plan = "noise:1,10,pgd:40"\nflat = 0.03\n'
    )
    both = text.format("told") + text.format("required") + "require_converged = true\n"
    record = _record(tmp_path, both, model="digits-plain", n=300)
    assert record.runs[0].plateau is not None
    assert (record.runs[0].plateau.verdict, record.runs[0].plateau.flat) == ("disputed", False)
    told, required = record.requirements
    assert (told.verdict, told.converged) == ("empirical", False)
    assert told.reason.endswith("not converged: the sweep is disputed: other attacks broke what it left")
    assert required.verdict == "failed"
    assert required.reason.endswith("but the sweep is disputed: other attacks broke what it left")


@pytest.mark.parametrize(
    ("sweep", "verdict", "says"),
    [
        ("disputed", "failed", "is disputed"),
        ("falling", "failed", "still falling"),
        ("undecided", "inconclusive", "is undecided"),
    ],
)
def test_a_drop_that_its_sweep_alone_fails_says_so(sweep: str, verdict: Grade, says: str) -> None:
    pairs = PairsRecord(before=90, lost=1, won=1, mcnemar=0.75, newly_broken=[3])
    said = reason_of_pairs(verdict, pairs, (0.0, 0.0), None, 0.05, sweep=sweep, stopped=None, needed=None, of=90)
    assert "the drop is at most 0.0%" in said
    assert says in said
    assert "more than" not in said


def test_no_image_that_stands_is_told_as_such() -> None:
    """One image of one is broken: none may stand for a failure, and none does."""
    counts = CountsRecord(n=1, wrong=0, broken=1, certified=0, open=0, pass_at=1, fail_at=0)
    said = reason_of_counts(
        "failed", counts, (0.0, 0.0), None, 0.5, attacked=True, sweep=None, stopped=None, needed=None, of=1
    )
    assert said == "1 of 1 images are broken and 0 wrong without an attack: at most 0.0% stand, all images were seen"
