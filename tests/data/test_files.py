"""npz archives and image folders, good and bad."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from PIL import Image

from robcert.data import load_dataset
from robcert.errors import EvaluationError, UsageError

Y = np.array([0, 1, 2, 1])


def archive(path: Path, **arrays: object) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((4, 6, 5), (1, 6, 5)),
        ((4, 6, 5, 3), (3, 6, 5)),
        ((4, 6, 5, 1), (1, 6, 5)),
        ((4, 3, 6, 5), (3, 6, 5)),
        ((4, 1, 6, 3), (1, 6, 3)),
        ((4, 7, 6, 5), (7, 6, 5)),
        ((4, 20), (20,)),
        ((4, 2, 3, 4, 5), (2, 3, 4, 5)),
    ],
)
def test_layouts(tmp_path: Path, given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    x = np.random.RandomState(0).rand(*given)
    data = load_dataset(archive(tmp_path / "a.npz", x=x, y=Y))
    assert data.shape == expected
    assert data.x.dtype == torch.float32
    assert data.x.is_contiguous()
    if given == (4, 6, 5, 3):
        assert torch.allclose(data.x, torch.from_numpy(x).movedim(-1, 1).float())
    assert data.y.tolist() == Y.tolist()
    assert data.classes == ("0", "1", "2")


def test_a_folder_of_archives_has_two_splits(tmp_path: Path) -> None:
    archive(tmp_path / "test.npz", x=np.zeros((4, 2, 2)), y=Y)
    archive(tmp_path / "train.npz", x=np.ones((4, 2, 2)), y=Y)
    assert float(load_dataset(f"npz:{tmp_path}").x.max()) == 0
    assert float(load_dataset(f"npz:{tmp_path}", split="train").x.min()) == 1


def test_bytes_are_divided_by_255(tmp_path: Path) -> None:
    x = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    data = load_dataset(archive(tmp_path / "a.npz", x=x, y=Y.astype("uint8"), classes=["a", "b", "c"]))
    assert torch.equal(data.x.flatten(), torch.arange(256, dtype=torch.float32) / 255)
    assert data.classes == ("a", "b", "c")


def test_other_byte_order(tmp_path: Path) -> None:
    data = load_dataset(archive(tmp_path / "a.npz", x=np.full((4, 2, 2), 0.5, dtype=">f8"), y=Y.astype(">i4")))
    assert float(data.x.min()) == float(data.x.max()) == 0.5
    assert data.y.tolist() == Y.tolist()


GOOD = np.full((4, 3, 3), 0.5)
BAD = {
    "too large": (GOOD * 4, Y, r"from 2 to 2, but \[0, 1\]"),
    "negative": (-GOOD, Y, "from -0.5 to -0.5"),
    "nan": (np.where(np.arange(9).reshape(3, 3) == 4, np.nan, GOOD), Y, "NaN or infinite"),
    "infinite": (GOOD * np.inf, Y, "NaN or infinite"),
    "integers": (GOOD.astype("int64"), Y, "int64"),
    "words": (np.full((4, 3, 3), "a"), Y, "numbers were expected"),
    "empty": (GOOD[:0], Y[:0], "at least one image"),
    "one number an image": (GOOD[:, 0, 0], Y, "at least one image"),
    "fewer labels": (GOOD, Y[:3], "3 labels for 4 images"),
    "probabilities as labels": (GOOD, np.full((4, 3), 1 / 3), "not one-hot"),
    "two ones in a row": (GOOD, np.eye(4) + np.eye(4)[::-1], "one label for each image"),
    "halves as labels": (GOOD, Y + 0.5, "not whole"),
    "nan as a label": (GOOD, np.where(Y == 2, np.nan, Y), "not whole"),
    "infinity as a label": (GOOD, np.where(Y == 2, np.inf, Y), "not whole"),
    "complex images": (GOOD * 1j, Y, "complex128"),
    "a label out of all proportion": (GOOD, Y * 10**12, "at most 1,048,576"),
    "negative labels": (GOOD, Y - 1, "from -1 to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(tmp_path: Path, case: str) -> None:
    x, y, message = BAD[case]
    with pytest.raises(EvaluationError, match=message) as caught:
        load_dataset(archive(tmp_path / "a.npz", x=x, y=y))
    assert caught.value.do, "an error says what to do"


def test_labels_beyond_the_named_classes(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"0 to 1 \(2 classes\)"):
        load_dataset(archive(tmp_path / "a.npz", x=GOOD, y=Y, classes=["a", "b"]))


@pytest.mark.parametrize("classes", ["a", [["a", "b", "c"]]])
def test_classes_that_are_no_list_of_names(tmp_path: Path, classes: object) -> None:
    with pytest.raises(EvaluationError, match="one name for each class"):
        load_dataset(archive(tmp_path / "a.npz", x=GOOD, y=Y, classes=classes))


def test_an_archive_that_declares_more_than_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"shape": (10**14,), "fortran_order": False, "descr": "<f8"})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", header.getvalue() + bytes(64))
    with pytest.raises(EvaluationError, match=r"x.npy .* float64 entries of shape \(100000000000000,\), and holds 64"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}")
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((400, 100, 100)), y=np.arange(400))
    assert len(load_dataset(f"npz:{tmp_path / 'bomb.npz'}").y) == 400
    monkeypatch.setattr("robcert.data.archive._FREE", 2**20)
    with pytest.raises(EvaluationError, match="would unpack to 32,00"):
        load_dataset(f"npz:{tmp_path / 'bomb.npz'}")


def test_bad_archives(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        load_dataset(f"npz:{tmp_path / 'none.npz'}")
    with pytest.raises(EvaluationError, match="no array 'y'"):
        load_dataset(archive(tmp_path / "a.npz", x=GOOD))
    good = (tmp_path / "a.npz").read_bytes()
    for name, content in {"cut": good[:100], "random": b"\x93random bytes", "empty": b""}.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(EvaluationError, match="cannot be read"):
            load_dataset(f"npz:{tmp_path / name}.npz")
    np.save(tmp_path / "one.npy", GOOD)
    with pytest.raises(EvaluationError, match="one NumPy array"):
        load_dataset(f"npz:{tmp_path / 'one.npy'}")
    np.savez(tmp_path / "object.npz", x=np.array([{}], dtype=object), y=Y)
    with pytest.raises(EvaluationError, match="cannot be read"):
        load_dataset(f"npz:{tmp_path / 'object.npz'}")


def picture(path: Path, value: int, mode: str = "L", size: tuple[int, int] = (5, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


def test_folder(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.png", 0)
    picture(tmp_path / "cat" / "2.png", 255)
    picture(tmp_path / "ant" / "1.png", 51)
    (tmp_path / "ant" / "notes.txt").write_text("not an image")
    data = load_dataset(f"folder:{tmp_path}")
    assert data.shape == (1, 4, 5)
    assert data.classes == ("ant", "cat")
    assert data.y.tolist() == [0, 1, 1]
    assert torch.allclose(data.x[:, 0, 0, 0], torch.tensor([0.2, 0.0, 1.0]))
    picture(tmp_path / "bee" / "1.png", 102, "RGB")
    data = load_dataset(f"folder:{tmp_path}")
    assert data.shape == (3, 4, 5)
    assert torch.allclose(data.x[1, :, 0, 0], torch.tensor([0.4, 0.0, 1.0]))


def test_folder_with_splits(tmp_path: Path) -> None:
    picture(tmp_path / "test" / "a" / "1.png", 0)
    picture(tmp_path / "train" / "a" / "1.png", 255)
    assert float(load_dataset(f"folder:{tmp_path}").x.max()) == 0
    assert float(load_dataset(f"folder:{tmp_path}", split="train").x.max()) == 1


@pytest.mark.parametrize("others", [(), ("val",), ("train", "val"), ("train", "valid", "extra")])
def test_a_split_is_no_class_whatever_stands_beside_it(tmp_path: Path, others: tuple[str, ...]) -> None:
    for split in ("test", *others):
        for name, value in (("a", 0), ("b", 255)):
            picture(tmp_path / split / name / "1.png", value)
    (tmp_path / "test" / "README.txt").write_text("not an image")
    data = load_dataset(f"folder:{tmp_path}")
    assert (data.classes, data.y.tolist()) == (("a", "b"), [0, 1])
    if "train" not in others:
        with pytest.raises(EvaluationError, match=r"only further folders \(test/a"):
            load_dataset(f"folder:{tmp_path}", split="train")


def test_splits_under_other_names_are_an_error(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "1.png", 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"only further folders \(training/a, validation/a\)") as error:
        load_dataset(f"folder:{tmp_path}")
    assert "PATH/CLASS/IMAGE.png" in error.value.do
    picture(tmp_path / "cat" / "1.png", 0)
    assert load_dataset(f"folder:{tmp_path}").classes == ("cat", "training", "validation"), "classes may be deeper"


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    for name in ("test", "quiz"):
        picture(tmp_path / name / "1.png", 0)
    assert load_dataset(f"folder:{tmp_path}").classes == ("quiz", "test")


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        load_dataset(f"folder:{tmp_path / 'none'}")
    with pytest.raises(EvaluationError, match="no sub-folders"):
        load_dataset(f"folder:{tmp_path}")
    (tmp_path / "a").mkdir()
    with pytest.raises(EvaluationError, match="1 sub-folders without images"):
        load_dataset(f"folder:{tmp_path}")
    picture(tmp_path / "a" / "1.png", 0)
    picture(tmp_path / "a" / "2.png", 0, size=(5, 5))
    with pytest.raises(EvaluationError, match=r"is 5x5, but .* is 5x4"):
        load_dataset(f"folder:{tmp_path}")
    (tmp_path / "a" / "2.png").write_bytes(b"no image")
    with pytest.raises(EvaluationError, match="is no image"):
        load_dataset(f"folder:{tmp_path}")
    Image.fromarray(np.full((4, 5), 40_000, dtype=np.int32)).save(tmp_path / "a" / "2.tif")
    (tmp_path / "a" / "2.png").unlink()
    with pytest.raises(EvaluationError, match="which of them is white is not known"):
        load_dataset(f"folder:{tmp_path}")
