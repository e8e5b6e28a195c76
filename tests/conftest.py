"""One thread for torch in every test: results and times then do not depend on who else uses the machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("robcert", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("robcert")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
