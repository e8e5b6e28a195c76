"""Properties in the language of the verification competition (VNN-LIB), which ask for an input with a forbidden output.

Source: the format is that of VNN-LIB 1.0 (vnnlib.org) and of the VNN-COMP reports.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constraint:
    """sum_i coefficients_i Y_i <= bound, or < where it is strict."""

    coefficients: tuple[tuple[int, float], ...]
    bound: float
    strict: bool = False


@dataclass(frozen=True)
class Region:
    """A box of inputs, and constraints on the outputs that hold together in a counterexample.

    Attributes:
        low: the smallest value of each input, in the order of the network's input tensor.
        high: the largest.
        constraints: all of them must hold.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    constraints: tuple[Constraint, ...]


@dataclass(frozen=True)
class Property:
    """A property: it asks for an input in one of the regions whose output fulfils the region's constraints."""

    regions: tuple[Region, ...]
    inputs: int
    outputs: int
