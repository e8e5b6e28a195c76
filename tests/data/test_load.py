"""Data sets by name: embedded, by torchvision's readers, and everything that can be wrong with the name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from robcert.data import load_dataset, overview, where
from robcert.errors import EvaluationError, UsageError


def shared_data() -> Path | None:
    """The folder of real data, $ROBCERT_DATA, or None."""
    folder = Path(os.environ.get("ROBCERT_DATA", ""))
    return folder if (folder / "MNIST" / "raw").is_dir() else None


FIRST = [1, 2, 4, 5, 6, 9, 4, 7, 8, 9, 2, 7]


def test_digits_are_split_once_and_for_all() -> None:
    test, train = load_dataset("digits"), load_dataset("digits", split="train")
    assert (len(test), len(train)) == (500, 1297)
    assert test.shape == (1, 8, 8)
    assert test.x.dtype == torch.float32
    assert float(test.x.min()) == 0
    assert float(test.x.max()) == 1
    assert test.classes == tuple("0123456789")
    assert test.seed is None
    assert torch.equal(test.index, torch.arange(500))
    both = {row.numpy().tobytes() for row in test.x} & {row.numpy().tobytes() for row in train.x}
    assert not both, "an image of the test split is in the training split"
    # The split of every published number: if this changes, all of them do.
    assert test.y[:12].tolist() == FIRST
    assert torch.bincount(test.y).min() >= 48


@pytest.mark.parametrize(("name", "torchvision"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize("split", ["test", "train"])
def test_real_data(name: str, torchvision: str, split: str) -> None:
    folder = shared_data()
    if folder is None:
        # Without the files the embedded set stands in: the same promises, on other images.
        data = load_dataset("digits", split=split)
    else:
        data = load_dataset(name, split=split, data_dir=folder)
        assert data.shape == (1, 28, 28)
        assert len(data) == (10_000 if split == "test" else 60_000)
        raw = folder / torchvision / "raw" / f"{'t10k' if split == 'test' else 'train'}-images-idx3-ubyte"
        first = torch.frombuffer(bytearray(raw.read_bytes()[16 : 16 + 784]), dtype=torch.uint8)
        assert torch.equal(data.x[0].flatten(), first.to(torch.float32) / 255)
    assert len(data.classes) == 10
    assert int(data.y.max()) == 9
    assert 0 <= float(data.x.min()) <= float(data.x.max()) <= 1


def test_unknown_names_suggest_the_right_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'digits'"):
        load_dataset("digit")
    with pytest.raises(UsageError, match="Did you mean 'test'"):
        load_dataset("digits", split="tset")
    with pytest.raises(UsageError, match="takes no path"):
        load_dataset("digits:somewhere")
    with pytest.raises(UsageError, match="needs a path"):
        load_dataset("npz")


def test_missing_files_name_every_place_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBCERT_DATA", str(tmp_path / "named"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(EvaluationError) as caught:
        load_dataset("mnist")
    message = str(caught.value)
    assert str(tmp_path / "named" / "MNIST" / "raw") in message
    assert str(tmp_path / "home" / ".cache" / "robcert" / "MNIST" / "raw") in message
    assert "--data mnist --download" in message
    assert "--data-dir" in message
    with pytest.raises(EvaluationError) as caught:
        load_dataset("cifar10", data_dir=tmp_path / "flag")
    assert str(tmp_path / "flag") in str(caught.value)
    assert "named" not in str(caught.value), "a folder that was named is the only one"
    assert not (tmp_path / "named").exists(), "looking creates nothing"


def test_damaged_files_are_one_clear_error(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03garbage")
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(EvaluationError, match="could not be read"):
        load_dataset("mnist", data_dir=tmp_path)


def test_where_and_overview(tmp_path: Path) -> None:
    assert where("digits") == []
    assert where("npz") == []
    assert where("mnist", tmp_path) == [(tmp_path / "MNIST" / "raw", False)]
    assert where(f"npz:{tmp_path / 'x.npz'}") == [(tmp_path / "x.npz", False)]
    with pytest.raises(UsageError, match="unknown data set"):
        where("nothing")
    entries = {entry.name: entry for entry in overview(tmp_path)}
    assert entries["digits"].ready is True
    assert entries["mnist"].ready is False
    assert entries["npz:PATH"].ready is None
    folder = shared_data()
    if folder is not None:
        assert {entry.name: entry.ready for entry in overview(folder)}["mnist"] is True
