"""How robust is a trained image classifier? Attacks, certificates and the bracket between them.

The public functions are loaded on first use, so that ``import robcert`` (and ``robcert --help``) never
pays for importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robcert.data import load_dataset
    from robcert.errors import RobcertError
    from robcert.network import load_model
    from robcert.network.convert import export
    from robcert.policy.gate import gate
    from robcert.reports.page.report import report
    from robcert.reproductions import reproduce
    from robcert.runs.api import attack
    from robcert.runs.certify import certify
    from robcert.runs.compare import compare
    from robcert.runs.detect import detect
    from robcert.runs.jacobian import jacobian
    from robcert.runs.leaderboard import leaderboard
    from robcert.runs.norms import norms
    from robcert.runs.record import RunRecord
    from robcert.runs.verify import verify
    from robcert.training.run import train
    from robcert.types import Dataset, LoadedModel, Threat

__version__ = "0.2.0"

FUNCTIONS = {
    "attack": "robcert.runs.api",
    "certify": "robcert.runs.certify",
    "compare": "robcert.runs.compare",
    "detect": "robcert.runs.detect",
    "export": "robcert.network.convert",
    "gate": "robcert.policy.gate",
    "jacobian": "robcert.runs.jacobian",
    "leaderboard": "robcert.runs.leaderboard",
    "load_dataset": "robcert.data",
    "load_model": "robcert.network",
    "norms": "robcert.runs.norms",
    "report": "robcert.reports.page.report",
    "reproduce": "robcert.reproductions",
    "train": "robcert.training.run",
    "verify": "robcert.runs.verify",
}
"""Public functions, and where they are; no module of this package has the name of one."""

_TYPES = {
    "Dataset": "robcert.types",
    "LoadedModel": "robcert.types",
    "RobcertError": "robcert.errors",
    "RunRecord": "robcert.runs.record",
    "Threat": "robcert.types",
}

__all__ = [
    "Dataset",
    "LoadedModel",
    "RobcertError",
    "RunRecord",
    "Threat",
    "__version__",
    "attack",
    "certify",
    "compare",
    "detect",
    "export",
    "gate",
    "jacobian",
    "leaderboard",
    "load_dataset",
    "load_model",
    "norms",
    "report",
    "reproduce",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    where = FUNCTIONS.get(name) or _TYPES.get(name)
    if where is None:
        raise AttributeError(f"module 'robcert' has no attribute {name!r}")
    return getattr(importlib.import_module(where), name)


def __dir__() -> list[str]:
    return sorted(__all__)
