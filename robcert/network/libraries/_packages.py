"""Optional packages: what may be done to get a network from one, and what is said where it is absent."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from robcert.errors import EvaluationError, first_line
from robcert.vision import mend

EXTRAS = {"timm": "timm", "transformers": "hf", "huggingface_hub": "hf"}
"""The extra of robcert that brings a package."""


@dataclass(frozen=True)
class Access:
    """What may be done to get the weights of a name.

    Attributes:
        random: none are read: the network is made with random ones.
        download: whether the network may be used.
    """

    random: bool = False
    download: bool = False


def package(name: str, reference: str) -> ModuleType:
    """Import an optional package.

    Raises:
        EvaluationError: it is not installed (the message names the extra), or its import fails.
    """
    mend()  # both import torchvision
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.partition(".")[0]):
            raise _broken(name, error) from error
        raise EvaluationError(
            f"{reference} needs {name}, which is not installed", f'pip install "robcert[{EXTRAS[name]}]"'
        ) from None
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> EvaluationError:
    return EvaluationError(
        f"{name} is installed and cannot be imported: {first_line(error)}", f"pip install --upgrade {name}"
    )
