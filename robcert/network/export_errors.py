"""The error of a network that torch cannot export, in words for a person."""

from __future__ import annotations

import io
import logging
import re
import traceback
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robcert.errors import EvaluationError, first_line, last_line, users_line
from robcert.network.graph_files import without_deprecations

_SIZE = re.compile(r"L\['\w+'\]\.size\(\)\[0\]")
_EMPIRICAL = "Empirical attacks and smoothing work without a graph."


class OneImage(Exception):
    """A network that does something else for one image; what is said of it is the first operator that differs."""


@contextmanager
def quiet() -> Generator[None]:
    """Keep from the terminal what torch logs and warns of while it exports: the error that follows says it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with without_deprecations(), warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def export_error(error: Exception, name: str, module: nn.Module, x: Tensor) -> EvaluationError:
    """Return the error that a person is shown instead of torch's report: it names an operator or a line of theirs.

    Args:
        error: what torch raised.
        name: how messages call the network.
        module: the network.
        x: images that were given to it.
    """
    script = any(isinstance(layer, torch.jit.ScriptModule) for layer in module.modules())
    if isinstance(cause := error.__cause__ or error, EvaluationError):
        return EvaluationError(f"{name} has no graph: {cause.found}", cause.do or _EMPIRICAL)
    where = users_line(error)
    at = f" (in {where})" if where else ""
    text = str(error)
    if isinstance(error, OneImage) or "Constraints violated" in text:
        looped = "" if where else _loop(module, x)
        first = f" (first at {text})" if isinstance(error, OneImage) else at
        at = f" (in {looped})" if looped else first
        asked = re.search(r"guard (.+?)\.?$", text, re.MULTILINE)
        question = f" (it asks whether {_SIZE.sub('n', asked.group(1))})" if asked else ""
        return EvaluationError(
            f"{name} does something else for one number of images n than for another{question}{at}",
            f"There is no bound for such a network: an answer must depend on its image alone. {_EMPIRICAL}",
        )
    if type(error).__name__.startswith("GuardOnDataDependent") or "data-dependent" in text:
        return EvaluationError(
            f"{name} decides by the values of a tensor which way to go{at}",
            f"There is no bound for a forward that branches on values. {_EMPIRICAL}",
        )
    form = "its TorchScript archive" if script else "it"
    return EvaluationError(
        f"torch cannot export {name}: {form} has no graph{at} ({type(error).__name__}: {first_line(error)})",
        f"Its forward must consist of tensor operators, without Python objects of its own. {_EMPIRICAL}"
        if not script
        else "Write the network with torch.export.save (a .pt2 file), or save its weights and name the architecture "
        f"with --arch. {_EMPIRICAL}",
    )


class _Loops(TorchFunctionMode):
    """Notes the first line at which a tensor is taken apart along its first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.line = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.line and getattr(func, "__name__", "") in ("__iter__", "unbind", "__len__", "split", "chunk"):
            self.line = last_line(traceback.extract_stack())
        return func(*args, **(kwargs or {}))


def _loop(module: nn.Module, x: Tensor) -> str:
    """Return the line at which a forward goes through its images one by one, as far as that can be seen."""
    watch = _Loops()
    with suppress(Exception), watch, torch.no_grad():
        module(x.clone())
    return watch.line
