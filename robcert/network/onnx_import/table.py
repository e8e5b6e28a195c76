"""The table of ops: which function reads which op, in which versions.

A version is the opset in which the ONNX standard gave the op its present form (``Clip`` got its bounds as inputs in
11). Every form is listed by its number, so that a form that nobody has looked at is an error and never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, TypeVar

from robcert.network.onnx_import.values import Unsupported
from robcert.registry import Registry

DOMAINS = ("", "ai.onnx")
"""What the standard calls itself."""

OLDEST = 7
"""The oldest opset that is read: ONNX 1.2, with numpy's broadcasting."""

Converter = Callable[[Any], Any]
F = TypeVar("F", bound=Converter)
T = TypeVar("T")

converters: Registry[Converter] = Registry("ONNX op", "robcert.network.onnx_import.ops")
"""``"Relu-14"`` -> the function that turns a `robcert.network.onnx_import.node.Node` into a layer."""


def op(name: str, *versions: int) -> Callable[[F], F]:
    """Decorator that registers the function that reads an op in these versions."""

    def keep(function: F) -> F:
        for version in versions:
            converters.register(f"{name}-{version}")(function)
        return function

    return keep


def op_table(table: Mapping[str, tuple[tuple[int, ...], T]], convert: Callable[[T, Any], Any]) -> None:
    """Register ops that differ in one thing: name -> (versions, thing), each read by ``convert(thing, node)``."""
    for name, (versions, thing) in table.items():
        op(name, *versions)(partial(convert, thing))


@cache
def version_of(name: str, opset: int) -> int:
    """Return the version of an op in an opset.

    Raises:
        Unsupported: the standard has no such op in this opset.
    """
    import onnx

    try:
        return int(onnx.defs.get_schema(name, opset, "").since_version)
    except onnx.defs.SchemaError:
        raise Unsupported(f"the ONNX standard knows no op {name!r} in opset {opset}") from None


@cache
def supported() -> dict[str, tuple[int, ...]]:
    """Return the versions of every op in the table, ascending."""
    found: dict[str, list[int]] = {}
    for key in converters.names():
        name, _, version = key.rpartition("-")
        found.setdefault(name, []).append(int(version))
    return {name: tuple(sorted(versions)) for name, versions in sorted(found.items())}


def find(name: str, opset: int) -> tuple[Converter, int]:
    """Return the function that reads an op of an opset, and the op's version.

    Raises:
        Unsupported: the op is not in the table, or not in this version.
    """
    version = version_of(name, opset)
    key = f"{name}-{version}"
    if key in converters:
        return converters.get(key), version
    known = supported().get(name)
    what = f"{name} in version {version} (robcert knows {', '.join(map(str, known))})" if known else name
    raise Unsupported(
        f"robcert does not read the ONNX op {what}",
        "docs/onnx.md lists the ops that it reads; one is added with a function in robcert/network/onnx_import/ops/.",
    )
