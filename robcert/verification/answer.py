"""The answer to a property, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Result = Literal["sat", "unsat", "unknown", "timeout"]
RESULTS: tuple[Result, ...] = ("sat", "unsat", "unknown", "timeout")
Arithmetic = Literal["executed", "real"]
ARITHMETICS: tuple[Arithmetic, ...] = ("executed", "real")


@dataclass(frozen=True)
class Answer:
    """The answer to a property.

    Attributes:
        result: "sat", "unsat", "unknown" or "timeout".
        real: no counterexample exists in real arithmetic; with "unsat" of the executed network that is proven too.
        by: the attack or the method that decided.
        x: the counterexample, entry by entry in the order of the file's input; empty without one.
        y: the outputs there, as executed.
        runtime: what executed the counterexample: a provider of onnxruntime, or "robcert".
        reason: why, in a sentence.
        seconds: wall-clock.
    """

    result: Result
    real: bool
    by: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    runtime: str
    reason: str
    seconds: float
