"""From the name of an architecture to a module: registered, torchvision's, or the user's own factory."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from robcert.errors import EvaluationError, RobcertError, UsageError, did_you_mean

TORCHVISION = "torchvision:"
_TORCHVISION_SHAPES = {"inception_v3": (3, 299, 299)}


@dataclass(frozen=True)
class Request:
    """What is known when a network is built; ``guess`` is the number of classes as the weights suggest it."""

    name: str
    input_shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    guess: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


def build(request: Request) -> nn.Module:
    """The network of that architecture, with fresh weights.

    Raises:
        UsageError: no such architecture, module or factory; a shape or a number of classes is missing.
        EvaluationError: the factory failed, or what it returned is no module.
    """
    try:
        if request.name.startswith(TORCHVISION):
            return _torchvision(request)
        if ":" in request.name:
            return _factory(request)
        return _registered(request)
    except RobcertError:
        raise
    except Exception as error:
        raise EvaluationError(
            f"the architecture {request.name!r} cannot be built: {type(error).__name__}: {error}",
            _given(request),
        ) from error


def default_shape(name: str) -> tuple[int, ...] | None:
    """The shape of one image that an architecture is known for, or None."""
    if name.startswith(TORCHVISION):
        return _TORCHVISION_SHAPES.get(name.removeprefix(TORCHVISION), (3, 224, 224))
    return None


def _given(request: Request) -> str:
    options = "".join(f", {key}={value!r}" for key, value in request.options.items())
    return f"It was given input_shape={request.input_shape}, num_classes={request.num_classes}{options}."


def _registered(request: Request) -> nn.Module:
    from robcert.nn import architectures

    if request.name not in architectures:
        raise UsageError(
            f"unknown architecture {request.name!r}",
            f"{did_you_mean(request.name, architectures.names()) if architectures.names() else ''} "
            "Others are named torchvision:NAME or package.module:factory.".strip(),
        )
    classes = request.num_classes or request.guess
    if request.input_shape is None or classes is None:
        raise UsageError(
            f"the architecture {request.name!r} needs the shape of an image and the number of classes",
            "Add --input-shape 3,32,32 --classes 10 (with your numbers).",
        )
    factory = architectures.get(request.name)
    return factory(input_shape=request.input_shape, num_classes=classes, **request.options)


def _torchvision(request: Request) -> nn.Module:
    from robcert.vision import torchvision

    name = request.name.removeprefix(TORCHVISION)
    models = importlib.import_module(f"{torchvision().__name__}.models")
    known: list[str] = models.list_models(module=models)
    if name not in known:
        near = did_you_mean(name, known).partition(" Known:")[0]
        raise UsageError(
            f"torchvision has no classifier called {name!r}",
            near if near.startswith("Did") else "Examples: resnet18, resnet50, vgg11_bn, mobilenet_v3_small.",
        )
    options = dict(request.options)
    accepted = inspect.signature(models.get_model_builder(name)).parameters
    if "init_weights" in accepted or name in ("googlenet", "inception_v3"):
        options.setdefault("init_weights", False)  # scipy's truncated normal takes a minute, for nothing
    if name in ("googlenet", "inception_v3"):
        options.setdefault("aux_logits", False)  # in eval mode they are never computed
    return models.get_model(name, weights=None, num_classes=request.num_classes or request.guess or 1000, **options)


def _factory(request: Request) -> nn.Module:
    module_name, _, attribute = request.name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise UsageError(
            f"there is no Python module {module_name!r} (looked in {here} and the installed packages)",
            "--arch is package.module:factory, e.g. --arch mymodels:make_net for make_net in ./mymodels.py",
        ) from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_") and callable(getattr(found, name))]
            raise UsageError(f"{module_name!r} has no {part!r}", did_you_mean(part, public))
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise UsageError(f"{request.name} is a {type(found).__name__}, expected a function or class of a network")
    built: Any = found(**_arguments(found, request))
    if not isinstance(built, nn.Module):
        raise EvaluationError(f"{request.name} returned a {type(built).__name__}, expected a torch.nn.Module")
    return built


def _arguments(factory: Callable[..., Any], request: Request) -> dict[str, Any]:
    """The user's factory gets its options, num_classes and input_shape as far as it names them."""
    arguments = dict(request.options)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return arguments
    wanted: dict[str, Any] = {"num_classes": request.num_classes, "input_shape": request.input_shape}
    for name, value in wanted.items():
        parameter = parameters.get(name)
        if parameter is None or name in arguments:
            continue
        if name == "num_classes" and value is None and parameter.default is inspect.Parameter.empty:
            value = request.guess
        if value is not None:
            arguments[name] = value
    return arguments
