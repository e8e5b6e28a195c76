"""The models and architectures that a table lists."""

from __future__ import annotations

import inspect

from robcert.network.overview import architectures
from robcert.nn import architectures as registry

SHAPES = ("input_shape", "num_classes")


def test_what_is_read_from_the_source_is_what_is_registered() -> None:
    listed = architectures()
    assert [entry.name for entry in listed] == registry.names()
    for entry in listed:
        factory = registry.get(entry.name)
        parameters = inspect.signature(factory).parameters
        assert entry.options == {k: repr(p.default) for k, p in parameters.items() if k not in SHAPES}
        assert entry.summary and entry.summary in " ".join((inspect.getdoc(factory) or "").split())
