"""Archives of torch whose tensors declare more bytes than there are: torch itself would read past the end of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from robcert.errors import EvaluationError
from robcert.network import load_model

from .conftest import SHAPE, small_net


def _with(source: Path, target: Path, member: str, content: bytes, *, twice: bool = False) -> Path:
    """The archive with other bytes in one member, or with that member twice."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            changes = name.endswith(member)
            if changes:
                copy.writestr(name, content)
            if twice or not changes:
                copy.writestr(name, archive.read(name))
    return target


@pytest.fixture(params=["script", "state_dict"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "good.pt"
    if request.param == "script":
        torch.jit.save(torch.jit.script(small_net()), str(path))
    else:
        torch.save(small_net().state_dict(), path)
    return path


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_storage_shorter_than_declared(source: Path, tmp_path: Path, factory: str) -> None:
    arch = factory if source.read_bytes().find(b"constants.pkl") < 0 else None
    assert load_model(source, arch=arch, input_shape=SHAPE).num_classes == 3
    for content in (b"", bytes(4)):
        short = _with(source, tmp_path / "short.pt", "data/0", content)
        with pytest.raises(EvaluationError, match=r"a tensor wants \d+ bytes of data/0, which has [04]"):
            load_model(short, arch=arch, input_shape=SHAPE)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(source: Path, tmp_path: Path, factory: str) -> None:
    double = _with(source, tmp_path / "double.pt", "data/0", b"", twice=True)
    with pytest.raises(EvaluationError, match="two files of one name"):
        load_model(double, arch=factory, input_shape=SHAPE)
