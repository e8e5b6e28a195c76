"""The gradient of a network by its image: that it has one, or what in it loses it."""

from __future__ import annotations

import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robcert.errors import first_line, last_line, users_line

_STEPS = ("sign", "sgn", "round", "floor", "ceil", "trunc", "heaviside", "argmax", "argmin", "one_hot", "bucketize")
"""Functions that are constant between their jumps."""


@dataclass(frozen=True)
class Gradient:
    """The answer to the question whether a network has a gradient by its image.

    Attributes:
        missing: why it says nothing; "" where it says something.
        absent: there is none to ask for. Else it was exactly 0 wherever that was tried.
    """

    missing: str = ""
    absent: bool = False


def look_for_gradient(module: nn.Module, x: Tensor) -> Gradient:
    """Ask a network for its gradient at images x (n, *shape)."""
    point = x.detach().clone().requires_grad_(True)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=_devices(x)), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            logits = module(point)
            if not logits.requires_grad:
                return Gradient(_lost(module, point), absent=True)
            weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(4)).to(logits)
            found = torch.autograd.grad((logits * weights).sum(), point, allow_unused=True)
            gradient = cast("Tensor | None", found[0])
        except Exception as error:  # an operator without a derivative, numpy: each has an exception of its own
            where = users_line(error)
            said = first_line(error, 400).rstrip(".")
            return Gradient(said + (f" (in {where})" if where else ""), absent=True)
        if gradient is None:
            return Gradient(_lost(module, point), absent=True)
        if len(x) > 1 and bool((gradient == 0).all()) and not bool((logits == logits[:1]).all()):
            return Gradient(f"it is exactly 0 at all of {len(x)} images that were tried" + _step(module, point))
    return Gradient()


class _Watch(TorchFunctionMode):
    """Notes the functions that take something with a gradient and give something without."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: tuple[str, str] | None = None
        self.step: tuple[str, str] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "__name__", func)).rstrip("_")
        follows = any(isinstance(one, Tensor) and one.requires_grad for one in args)
        if follows and self.step is None and name in _STEPS:
            self.step = name, last_line(traceback.extract_stack())
        ends = follows and isinstance(result, Tensor) and not result.requires_grad
        if ends and self.lost is None and result.dtype != torch.bool:  # masks are made by comparisons
            self.lost = name, last_line(traceback.extract_stack())
        return result


def _watched(module: nn.Module, point: Tensor) -> _Watch:
    watch = _Watch()
    with suppress(Exception), watch:  # not every network runs under such a mode
        module(point)
    return watch


def _lost(module: nn.Module, point: Tensor) -> str:
    found = _watched(module, point).lost
    return "its answer does not come from its image by steps that autograd follows" + _at(found, "they end at")


def _step(module: nn.Module, point: Tensor) -> str:
    return _at(_watched(module, point).step, "a step function is in it:")


def _at(found: tuple[str, str] | None, what: str) -> str:
    if found is None:
        return ""
    name, line = found
    return f"; {what} {name}" + (f" (in {line})" if line else "")


def _devices(x: Tensor) -> list[torch.device]:
    return [x.device] if x.device.type == "cuda" else []
