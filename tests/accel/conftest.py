"""The network that most tests of acceleration attack."""

from __future__ import annotations

import pytest

from robcert.network import load_model
from robcert.types import LoadedModel


@pytest.fixture(scope="module")
def plain() -> LoadedModel:
    return load_model("digits-plain")
