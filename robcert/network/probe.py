"""One look at a loaded network before anything relies on it.

**The stated rounding bound.** Two correct float32 executions of one network (another batch size, another
kernel, the exported form) differ, since floating-point sums depend on their order. ``rounding`` bounds that
difference, relative to the largest |logit| of the image. It is measured: the largest difference between
batches of 1, 7, 8 and n images and, where the network can be copied to float64, between float32 and float64,
times 4, and never below 2**-22 (two units in the last place). It is a measurement with a safety factor, not a
proof.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from robcert.errors import EvaluationError
from robcert.network.adapt import answer_of
from robcert.network.gradient import Gradient, look_for_gradient

SAFETY = 4.0
FLOOR = 2.0**-22
MOST_DRAWN = 2**26
"""Entries of all probing images together: 128 images of 3 x 384 x 384, and fewer that are larger."""

_TRIED = 8
"""Images at which the gradient is asked for."""

_WORK = 4e9
"""Multiply-adds that one probing batch may cost (well under a second on one core)."""


@dataclass(frozen=True)
class Probe:
    """The result of the probe: the number of classes, the rounding bound, warnings, and whether there is a gradient."""

    num_classes: int
    rounding: float
    warnings: tuple[str, ...]
    gradient: Gradient


def probe(
    module: nn.Module,
    input_shape: tuple[int, ...],
    num_classes: int | None,
    box: tuple[float, float],
    device: torch.device | str = "cpu",
) -> Probe:
    """Calls the network on random images of the box.

    Args:
        module: the network, in eval mode.
        input_shape: the shape of one image.
        num_classes: the number of logits that is expected, or None to take what comes.
        box: the smallest and the largest value of an input entry.
        device: where the network is.

    Raises:
        EvaluationError: the network does not accept the shape, does not answer with logits (n, classes),
            answers with another number of classes, or with NaN or inf.
    """
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        generator = torch.Generator().manual_seed(0)
        low, high = box
        drawn = max(2, min(128, MOST_DRAWN // max(1, math.prod(input_shape))))
        x = low + (high - low) * torch.rand(drawn, *input_shape, generator=generator)
        one, work = _first(module, x[:1].to(device), input_shape)
        classes = _check_logits(one, 1, num_classes)
        n = int(min(drawn, max(8, _WORK // max(work, 1))))
        x = x[:n].to(device)
        logits = _call(module, x, input_shape)
        _check_logits(logits, n, classes)
        again = _call(module, x, input_shape)
        noticed: list[str] = []
        if not torch.equal(logits, again):
            noticed.append(
                "the model is random: two identical calls gave different logits (largest difference "
                f"{float((logits - again).abs().max()):.2g}). One draw proves little: its gradients must be "
                "averaged, and an adversarial example of one call may be none in the next, so verdicts "
                "may not hold."
            )
        if _is_softmax(logits):
            noticed.append(
                "the outputs look like probabilities (every row lies in [0, 1] and sums to 1), but logits "
                "are expected: after a softmax gradients vanish and attacks fail where the model does not "
                "hold. "
                "Give the network without its final softmax."
            )
        batches = [one, *(_call(module, x[:k], input_shape) for k in (7, 8) if k < n)]
        difference = max(_relative(found, logits[: len(found)]) for found in batches)
        if difference > 1e-3 and torch.equal(logits, again):
            noticed.append(
                "the answer to an image depends on the other images of the batch (relative difference "
                f"{difference:.2g}): a BatchNorm without running statistics does that. "
                "Verdicts hold only for the batch they were found in."
            )
        exact = _float64(module, x[: 16 if n >= 16 else 2])
        if exact is not None:
            difference = max(difference, _relative(logits[: len(exact)], exact))
    rounding = max(FLOOR, SAFETY * difference) if torch.equal(logits, again) else FLOOR
    return Probe(classes, rounding, tuple(noticed), look_for_gradient(module, x[:_TRIED]))


def _first(module: nn.Module, x: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, float]:
    """Return the answer to one image, and the multiply-adds that it cost."""
    counter = _Work()
    try:
        with counter:
            return _call(module, x, shape), counter.total
    except EvaluationError:  # what cannot be counted may still run; a second failure is the network's own
        return _call(module, x, shape), _WORK / 8


class _Work(TorchDispatchMode):
    """Counts multiply-adds (torch's own counter takes two seconds to import)."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: True, torch's default, imports all of its compiler at the first call, a second and a half."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if isinstance(out, Tensor):
            if "convolution" in name:
                self.total += out.numel() * args[1].numel() / max(1, args[1].shape[0])
            elif name.endswith("mm"):
                self.total += out.numel() * args[-1].shape[-2]
        return out


def _call(module: Callable[[Tensor], object], x: Tensor, shape: tuple[int, ...]) -> Tensor:
    answer = answer_of(module, x, shape)
    if not isinstance(answer, Tensor):
        raise EvaluationError(
            f"the network answers with a {type(answer).__name__}, expected one tensor of logits (n, classes)",
            "Wrap it so that its forward returns the logits only.",
        )
    return answer


def _check_logits(logits: Tensor, n: int, num_classes: int | None) -> int:
    if logits.dim() != 2 or logits.shape[0] != n or logits.shape[1] < 2:
        wanted = f"({n}, {num_classes or 'classes'})"
        raise EvaluationError(
            f"the network answers {n} image(s) with a tensor of shape {tuple(logits.shape)}, "
            f"expected logits of shape {wanted}",
            "robcert evaluates classifiers with at least two classes and one row of logits an image.",
        )
    if num_classes is not None and logits.shape[1] != num_classes:
        raise EvaluationError(
            f"the network has {logits.shape[1]} classes, expected {num_classes}",
            f"Use data with {logits.shape[1]} classes, or correct the number (--classes or the card).",
        )
    if not logits.is_floating_point():
        raise EvaluationError(f"the network answers with {logits.dtype}, expected float32 logits")
    if not bool(torch.isfinite(logits).all()):
        bad = int((~torch.isfinite(logits)).any(1).sum())
        raise EvaluationError(
            f"the network answers NaN or inf on {bad} of {n} random images of the box",
            "No verdict is possible. Check its weights, and that its inputs lie in the box (--mean, --std).",
        )
    return int(logits.shape[1])


def _is_softmax(logits: Tensor) -> bool:
    inside = bool((logits >= 0).all()) and bool((logits <= 1).all())
    return inside and bool(((logits.double().sum(1) - 1).abs() < 1e-4).all())


def _relative(found: Tensor, reference: Tensor) -> float:
    """Return the largest |difference| of a row over its largest |logit|, over all rows."""
    difference = (found.double() - reference.double()).abs().amax(1)
    return float((difference / reference.double().abs().amax(1).clamp_min(1e-30)).max())


def _float64(module: nn.Module, x: Tensor) -> Tensor | None:
    """Return the answer in float64, or None where the network cannot be copied or converted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes of torch about its own graphs
            exact = copy.deepcopy(module).double()(x.double())
    except Exception:  # an interpreter, or constants of a fixed type, inside the network
        return None
    usable = isinstance(exact, Tensor) and exact.dtype == torch.float64 and bool(torch.isfinite(exact).all())
    return exact if usable else None
