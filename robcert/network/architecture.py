"""From the name of an architecture to a module: registered, a library's, or the user's own factory."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from robcert.errors import EvaluationError, RobcertError, UsageError, did_you_mean
from robcert.network import libraries
from robcert.network.request import Request
from robcert.vision import mend


def build(request: Request) -> nn.Module:
    """Return the network of that architecture, with fresh weights.

    Raises:
        UsageError: no such architecture, module or factory; a shape or a number of classes is missing.
        EvaluationError: the factory failed, or what it returned is no module.
    """
    try:
        if (named := libraries.split(request.name)) is not None:
            return libraries.libraries.get(named[0]).build(request)
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
    """Return the shape of one image that an architecture is known for, or None."""
    named = libraries.split(name)
    return None if named is None else libraries.libraries.get(named[0]).described(named[1]).input_shape


def _given(request: Request) -> str:
    options = "".join(f", {key}={value!r}" for key, value in request.options.items())
    classes = request.num_classes or request.guess
    return f"It was given input_shape={request.input_shape}, num_classes={classes}{options}."


def _registered(request: Request) -> nn.Module:
    from robcert.nn import architectures

    if request.name not in architectures:
        raise UsageError(
            f"unknown architecture {request.name!r}",
            f"{did_you_mean(request.name, architectures.names()) if architectures.names() else ''} "
            "Others are named torchvision:NAME, timm:NAME or package.module:factory.".strip(),
        )
    classes = request.num_classes or request.guess
    if request.input_shape is None or classes is None:
        raise UsageError(
            f"the architecture {request.name!r} needs the shape of an image and the number of classes",
            "Add --input-shape 3,32,32 --classes 10 (with your numbers).",
        )
    factory = architectures.get(request.name)
    return factory(input_shape=request.input_shape, num_classes=classes, **request.options)


def _factory(request: Request) -> nn.Module:
    module_name, _, attribute = request.name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    mend()  # the module may import torchvision, or timm, which does
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
    arguments = _arguments(found, request)
    try:
        built: Any = found(**arguments)
    except TypeError as error:
        # **kwargs may go to something that knows no num_classes.
        if "num_classes" not in str(error) or "num_classes" not in arguments or "num_classes" in request.options:
            raise
        built = found(**{key: value for key, value in arguments.items() if key != "num_classes"})
    if not isinstance(built, nn.Module):
        raise EvaluationError(f"{request.name} returned a {type(built).__name__}, expected a torch.nn.Module")
    return built


def _arguments(factory: Callable[..., Any], request: Request) -> dict[str, Any]:
    """Return the options, and num_classes and input_shape if the user's factory has parameters of these names.

    num_classes also goes to a factory that passes any keyword on (``**kwargs``), as those of timm do.
    """
    arguments = dict(request.options)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return arguments
    any_keyword = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if ("num_classes" in parameters or any_keyword) and (classes := request.num_classes or request.guess) is not None:
        arguments.setdefault("num_classes", classes)
    if "input_shape" in parameters and request.input_shape is not None:
        arguments.setdefault("input_shape", request.input_shape)
    return arguments
