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
    from robcert.runs.api import attack
    from robcert.runs.compare import compare
    from robcert.runs.record import RunRecord
    from robcert.sensitivity.detection import detect
    from robcert.sensitivity.jacobian import jacobian
    from robcert.types import Dataset, LoadedModel, Threat

__version__ = "0.1.0"

_PUBLIC = {
    "attack": "robcert.runs.api",
    "compare": "robcert.runs.compare",
    "detect": "robcert.sensitivity.detection",
    "jacobian": "robcert.sensitivity.jacobian",
    "load_model": "robcert.network",
    "load_dataset": "robcert.data",
    "Threat": "robcert.types",
    "LoadedModel": "robcert.types",
    "Dataset": "robcert.types",
    "RunRecord": "robcert.runs.record",
    "RobcertError": "robcert.errors",
}

__all__ = [
    "Dataset",
    "LoadedModel",
    "RobcertError",
    "RunRecord",
    "Threat",
    "__version__",
    "attack",
    "compare",
    "detect",
    "jacobian",
    "load_dataset",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'robcert' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
