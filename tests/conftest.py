"""One thread for torch in every test: results and times then do not depend on who else uses the machine."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("robcert", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("robcert")


@pytest.hookimpl(tryfirst=True)  # before -m is read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a table with ``drawn(n)``, leave one case in n (at least one) in the default set, by the hash of its name."""
    tables: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("drawn") is not None:
            tables.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for table in tables.values():
        marker = table[0].get_closest_marker("drawn")
        assert marker is not None
        table.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        for item in table[-(-len(table) // marker.args[0]) :]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
