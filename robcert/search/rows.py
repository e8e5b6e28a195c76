"""The tensors of a running leg, a row for every slot: read to be saved or moved, and put back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor

from robcert.attacks.protocol import Problem
from robcert.search.oracle import ModelOracle

_PROBLEM = ("x", "y", "index", "restart", "best", "rivals")
FIXED = tuple(f"problem.{name}" for name in _PROBLEM if name != "best")
"""Those that no step of an attack writes."""
_HINT = ("hint", "hint_at", "hint_distance")
_ORACLE = ("nearest", "found_at", *_HINT, "evaluations", "zero_gradients", "non_finite")


def rows_of(problem: Problem, oracle: ModelOracle, state: Any) -> dict[str, Tensor]:
    """All of them by name, as they are (no copies)."""
    found = {f"state.{f.name}": getattr(state, f.name) for f in fields(state)}
    found |= {f"problem.{name}": getattr(problem, name) for name in _PROBLEM}
    return found | {f"oracle.{name}": getattr(oracle, name) for name in _ORACLE}


def put_rows(rows: dict[str, Tensor], problem: Problem, oracle: ModelOracle, state: Any) -> Any:
    """Write them into a problem and an oracle of as many slots, in place, and return the state that goes with them.

    Args:
        rows: as of `rows_of`, on any device. A snapshot of an older version has no hints; a new oracle has none either.
        problem, oracle: where they are to be.
        state: of the attack, for its type.
    """
    for name in _PROBLEM:
        getattr(problem, name).copy_(rows[f"problem.{name}"])
    for name in _ORACLE:
        if name not in _HINT or f"oracle.{name}" in rows:
            getattr(oracle, name).copy_(rows[f"oracle.{name}"])
    return type(state)(**{f.name: rows[f"state.{f.name}"].to(problem.x.device) for f in fields(state)})
