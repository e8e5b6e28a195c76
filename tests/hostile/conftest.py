"""One server for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.bench import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    found = Bench(tmp_path_factory.mktemp("hostile"))
    yield found
    found.close()
