"""Layers and architectures; one file a family, each architecture registered by its decorator."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from robcert.registry import Registry

architectures: Registry[Callable[..., nn.Module]] = Registry("architecture", "robcert.nn")
"""Factories, called as ``factory(input_shape=(1, 8, 8), num_classes=10, **options)``."""

architecture = architectures.register
