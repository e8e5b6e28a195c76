r"""Detection of adversarial examples by the size of a gradient (paper E, section 7).

An image is rejected where a statistic of `robcert.sensitivity.gradients` exceeds a threshold; by default
:math:`\|\nabla p(x)\|_{2,\infty}` with the softmax p, the paper's eq. 7.1. Attacks that know nothing of it end where
two classes are about equally likely, and there the softmax is steep. An adversary who knows it goes further, to where
the network is sure of the wrong answer: what counts is how much further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks import Attack
from robcert.bracket import Bracket
from robcert.data.pictures import read_pictures
from robcert.data.subset import stratified_order
from robcert.errors import EvaluationError, UsageError
from robcert.network.batching import default_slots, logits_of
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.sensitivity.detector import Detector
from robcert.sensitivity.gradients import measure
from robcert.sensitivity.threshold import Threshold, calibrate, check_statistic
from robcert.types import Batch, Dataset, LoadedModel, Threat

Part = Callable[[str, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]
"""Maps the name of a part and what measures it to what was measured, now or in an earlier run."""


@dataclass(frozen=True)
class Trial:
    """An attack to detect: its name in a table, the attack, and how often it is restarted."""

    name: str
    attack: Attack
    restarts: int = 1

    @property
    def adaptive(self) -> bool:
        """Return whether it attacks the detector too."""
        return bool(getattr(self.attack, "evades", False))


@dataclass(frozen=True)
class DetectionResult:
    """The examples that one attack found, and the detector's answers to them.

    Attributes:
        name: of the attack.
        adaptive: whether it attacked the detector too: only examples that pass the detector count as found then.
        attacked: images that were attacked.
        distance: (attacked,) float64, l2; inf where nothing was found.
        values: (found,) float64, the statistic of the examples.
        detected: examples that are rejected; for an adaptive attack, images for which no example passes.
        area: under the ROC curve of clean images against the examples; None where nothing was found, and for an
            adaptive attack, whose examples were made for the one threshold.
        forwards, backwards: that the attack took, in images.
    """

    name: str
    adaptive: bool
    attacked: int
    distance: Tensor
    values: Tensor
    detected: int
    area: float | None
    forwards: int
    backwards: int

    @property
    def found(self) -> int:
        """Images for which an example was found."""
        return len(self.values)

    @property
    def tried(self) -> int:
        """Out of how many ``detected`` counts."""
        return self.attacked if self.adaptive else self.found


@dataclass(frozen=True)
class Detection:
    """All of it: ``clean`` (n,) float64 holds the statistic of the clean test images, ``rejected`` how many fail."""

    threshold: Threshold
    clean: Tensor
    rejected: int
    right: int
    results: tuple[DetectionResult, ...]


def divide(data: Dataset, calibration: int, n: int | None, seed: int) -> tuple[Dataset, Dataset]:
    """Disjoint stratified parts of a data set: calibration images, and at most ``n`` others.

    Raises:
        UsageError: nothing is asked for, or left, to test on.
    """
    if n == 0:
        raise UsageError("there are no clean test images", "Give some: --n 250")
    order = stratified_order(data.y.cpu(), seed)
    rest = order[calibration:] if n is None else order[calibration : calibration + n]
    if not len(rest):
        raise UsageError(
            f"{data.name} ({data.split}) has {len(data)} images: after {calibration} calibration images none is left "
            "to test on",
            f"Calibrate on fewer: --calibration {max(1, len(data) // 2)}",
        )
    return _part(data, order[:calibration], seed), _part(data, rest, seed)


def fix_threshold(
    model: LoadedModel, calibration: Dataset, statistic: str = "probability", rate: float = 0.05, seed: int = 0
) -> Threshold:
    """The threshold at which a share ``rate`` of clean images is rejected.

    Args:
        model: the network.
        calibration: clean images, used neither for training nor for testing.
        statistic: what is measured.
        rate: of false positives.
        seed: chose the images (kept in the threshold, so that the same images are not tested on later).

    Raises:
        UsageError: an unknown statistic, no images, or too few of them.
    """
    check_statistic(statistic)
    if not len(calibration):
        raise UsageError("there are no clean calibration images", "Give some: --calibration 250")
    value, rank = calibrate(Detector(model.module, statistic, 0.0).values(calibration.x), rate)
    return Threshold(
        statistic=statistic,
        value=value,
        rate=rate,
        n=len(calibration),
        rank=rank,
        data=calibration.name,
        split=calibration.split,
        seed=seed,
        model=model.name,
        sha256=model.source.sha256,
    )


def detect(
    model: LoadedModel,
    test: Dataset,
    threshold: Threshold,
    trials: Sequence[Trial],
    attacked: int | None = None,
    seed: int = 0,
    advance: Callable[[float], None] = lambda _: None,
    part: Part = lambda _, make: make(),
    chunk: int | None = None,
    most: int | None = None,
) -> Detection:
    """Screen clean images, attack those that are right, and screen the examples.

    Args:
        model: the network.
        test: clean images that the threshold was not fixed on.
        threshold: of the detector.
        trials: the attacks, l2, each looking for the closest example; adaptive ones for the closest that passes.
        attacked: at most so many images are attacked; None: all that are right.
        seed: of the attacks' random starts.
        advance: is told how many attacks on an image have ended since the last call.
        part: is given each part of the work; see `Part`.
        chunk: attacked images of a part; None: all.
        most: images attacked at once, at most; None: by the size of an image.

    Raises:
        UsageError: no clean test image; none that the network gets right.
    """
    if not len(test):
        raise UsageError("there are no clean test images", "Give some: --n 250")
    detector = Detector(model.module, threshold.statistic, threshold.value)
    slots = most or default_slots(test.x[0].numel())
    measured = part(
        "clean",
        lambda: {
            "values": detector.values(test.x),
            "right": (logits_of(model.module, test.x, slots).argmax(dim=1) == test.y).cpu(),
        },
    )
    clean, right = measured["values"], measured["right"].nonzero().flatten().to(test.x.device)
    if trials and not len(right):
        raise UsageError(f"{model.name} gets none of {len(test)} test images right: there is nothing to attack")
    rows = right[:attacked]
    images = Batch(test.x[rows], test.y[rows], test.index[rows])
    threat = Threat("l2", (scale(model, images),), test.box) if len(rows) else None
    results: list[DetectionResult] = []
    for number, trial in enumerate(trials):
        assert threat is not None
        parts: list[dict[str, Tensor]] = []
        for at in range(0, len(images), chunk or len(images)):
            some = list(range(at, min(at + (chunk or len(images)), len(images))))
            ended = 0.0

            def synchronised(stage: Stage) -> None:
                nonlocal ended
                now = (stage.left + stage.running) / stage.plan.restarts
                advance(now - ended)
                ended = now

            attack = partial(_attack, model, trial, detector, images, some, threat, seed, slots, synchronised)
            parts.append(part(f"{number} {at}", attack))
            advance(len(some) - ended)
        results.append(_result(trial, detector, clean, parts))
    return Detection(threshold, clean, int(detector.rejects(clean).sum()), len(right), tuple(results))


def screen(
    model: LoadedModel, threshold: Threshold, folder: Path
) -> tuple[list[Path], list[str], list[float], list[str]]:
    """Return what a detector says of image files: the files, the model's answers, the statistic of each, and notes.

    Raises:
        UsageError: no folder, or no image in it.
        EvaluationError: a file is no image, or not of the model's size.
    """
    files, x, notes = read_pictures(folder, model.input_shape, model.pipeline)
    device = next((t.device for t in (*model.module.parameters(), *model.module.buffers())), None)
    x = x if device is None else x.to(device)
    answers = logits_of(model.module, x, default_slots(x[0].numel())).argmax(dim=1)
    values = Detector(model.module, threshold.statistic, threshold.value).values(x)
    return files, [str(int(answer)) for answer in answers], values.tolist(), notes


def scale(model: LoadedModel, images: Batch) -> float:
    """A distance at which attacks may begin: twice the median of the finite linearised distances; never 0.

    Raises:
        EvaluationError: none is finite.
    """
    found = measure(model.module, images.x, images.y, ("gap", "margin"))
    linear = (found["gap"].clamp_min(0) / found["margin"].clamp_min(1e-12)).double()
    finite = linear[linear.isfinite()]
    if not len(finite):
        raise EvaluationError(
            f"the gradient of {model.name} is NaN or infinite at each of {len(linear)} images to attack",
            "Attacks by gradients find nothing there. Give other images (--data, --seed)",
        )
    low, high = model.box
    widest = (high - low) * images.x[0].numel() ** 0.5
    return float((2 * finite.median()).clamp(1e-3 * widest, widest))


def roc(clean: Tensor, values: Tensor) -> tuple[list[float], list[float]]:
    """False and true positive rates over all thresholds, both rising from 0 to 1; NaN ranks as infinity.

    A point on the straight line between its neighbours is left out.
    """
    both = torch.cat([clean, values])
    distinct, ranks = both.masked_fill(both.isnan(), float("inf")).unique(return_inverse=True)
    parts = ranks.split([len(clean), len(values)])
    above = torch.stack([part.bincount(minlength=len(distinct)).flip(0).cumsum(0) for part in parts])
    bends = above.diff(n=2).bool().any(0)
    ends = bends.new_ones(1)
    kept = torch.nn.functional.pad(above[:, torch.cat([ends, bends, ends])] if len(distinct) > 2 else above, (1, 0))
    false, true = (kept.double() / kept[:, -1:]).tolist()
    return false, true


def _attack(
    model: LoadedModel,
    trial: Trial,
    detector: Detector,
    images: Batch,
    positions: list[int],
    threat: Threat,
    seed: int,
    slots: int,
    synchronised: Callable[[Stage], None],
) -> dict[str, Tensor]:
    """Attack some of the images: the distance of each, the statistic of the examples, and what it took."""
    bracket = Bracket(images.index)
    guard = detector.passes if trial.adaptive else None
    search = SearchProblem(model, images, bracket, threat, "minimize", seed, guard=guard)
    stepper = stepper_for(trial.attack, Networks(model.module), images.x.device)
    stage = Stage(search, Work(trial.name, positions, trial.restarts, slots), stepper)
    stage.run(synchronised)
    found = list(bracket.found())
    examples = bracket.points(found).to(images.x.device) if found else images.x[:0]
    return {
        "distance": bracket.distance[positions],
        "values": detector.values(examples) if found else torch.zeros(0, dtype=torch.float64),
        "spent": torch.tensor([stage.spent.forwards, stage.spent.backwards]),
    }


def _result(trial: Trial, detector: Detector, clean: Tensor, parts: list[dict[str, Tensor]]) -> DetectionResult:
    distance, values = (torch.cat([part[name] for part in parts]) for name in ("distance", "values"))
    false, true = roc(clean, values) if len(values) else ([], [])
    forwards, backwards = torch.stack([part["spent"] for part in parts]).sum(dim=0).tolist()
    rejected = int(detector.rejects(values).sum())
    return DetectionResult(
        name=trial.name,
        adaptive=trial.adaptive,
        attacked=len(distance),
        distance=distance,
        values=values,
        detected=rejected + (len(distance) - len(values) if trial.adaptive else 0),
        area=float(torch.trapezoid(torch.tensor(true), torch.tensor(false))) if false and not trial.adaptive else None,
        forwards=forwards,
        backwards=backwards,
    )


def _part(data: Dataset, rows: Tensor, seed: int) -> Dataset:
    rows = rows.to(data.y.device)
    return replace(data, x=data.x[rows], y=data.y[rows], index=data.index[rows], seed=seed)
