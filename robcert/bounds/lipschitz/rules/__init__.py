"""Lipschitz constants of single operators; one file a family, one registered function a rule.

A rule takes a `robcert.bounds.lipschitz.call.Call` and returns the `robcert.bounds.lipschitz.values.Value` of the op (a
list of them for an op with several results). It is found by the name of the ATen op, without its overload::

    @rule("relu")
    def relu(call: LipschitzCall) -> Value: ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from robcert.registry import Registry

Rule = Callable[[Any], Any]
R = TypeVar("R", bound=Rule)

rules: Registry[Rule] = Registry("rule", "robcert.bounds.lipschitz.rules")
"""Name of an ATen op -> its rule."""


def rule(*names: str, affine: bool = False) -> Callable[[R], R]:
    """Decorator that registers one rule for the named ops.

    Args:
        names: of ATen ops, without overload.
        affine: the op is affine in what it reads, so that what it reads need not be measured on its own.
    """

    def keep(function: R) -> R:
        function.affine = affine  # pyright: ignore[reportFunctionMemberAccess]
        return rules.register(*names)(function)

    return keep
