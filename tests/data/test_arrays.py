"""Archives as people write them: names of arrays, forms of labels, rounding at the ends of the box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robcert.data import load_dataset
from robcert.errors import EvaluationError

Y = np.array([0, 2, 1, 2])
X = np.random.RandomState(0).rand(4, 3, 3).astype(np.float32)


def load(path: Path, split: str = "test", order: object = None, **arrays: object) -> object:
    np.savez(path / "a.npz", **arrays)  # type: ignore[arg-type]
    return load_dataset(f"npz:{path / 'a.npz'}", split=split, class_order=order)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels",
    [
        Y.reshape(4, 1),
        Y.reshape(4, 1).astype("uint8"),
        Y.astype("float64"),
        Y.astype("float32").reshape(4, 1),
        np.eye(3)[Y],
        np.eye(3, dtype=bool)[Y],
        np.eye(3, dtype="int8")[Y],
        np.array(["ant", "cat", "bee", "cat"]),
        np.array([b"ant", b"cat", b"bee", b"cat"]).reshape(4, 1),
    ],
)
def test_forms_of_labels(tmp_path: Path, labels: np.ndarray) -> None:
    found = load(tmp_path, x=X, y=labels)
    assert found.y.tolist() == Y.tolist()
    assert found.y.dtype == torch.int64
    assert len(found.classes) == 3


def test_one_hot_labels_know_classes_that_no_image_has(tmp_path: Path) -> None:
    found = load(tmp_path, x=X, y=np.eye(7)[Y])
    assert (found.y.tolist(), len(found.classes)) == (Y.tolist(), 7)


def test_two_classes_as_truth_values(tmp_path: Path) -> None:
    assert load(tmp_path, x=X, y=Y > 1).y.tolist() == [0, 1, 0, 1]


def test_names_are_numbered_by_classes_or_by_an_order(tmp_path: Path) -> None:
    names = np.array(["ant", "cat", "bee", "cat"])
    found = load(tmp_path, x=X, y=names, classes=["cat", "bee", "ant"])
    assert (found.y.tolist(), found.classes, found.ranked) == ([2, 0, 1, 0], ("cat", "bee", "ant"), False)
    found = load(tmp_path, x=X, y=names, order={"ant": 4, "bee": 2, "cat": 0})
    assert found.y.tolist() == [4, 0, 2, 0]
    assert load(tmp_path, x=X, y=names).ranked


NAMES = [
    ({"x": "x", "y": "y"}, "test"),
    ({"x": "images", "y": "labels"}, "test"),
    ({"x": "X", "y": "Y"}, "test"),
    ({"x": "data", "y": "target"}, "train"),
    ({"x": "arr_0", "y": "arr_1"}, "test"),
    ({"x": "x_test", "y": "y_test"}, "test"),
    ({"x": "XTrain", "y": "yTrain"}, "train"),
    ({"x": "test_images", "y": "test_labels"}, "test"),
]


@pytest.mark.parametrize(("names", "split"), NAMES)
def test_names_of_arrays(tmp_path: Path, names: dict[str, str], split: str) -> None:
    arrays = {names["x"]: X, names["y"]: Y}
    found = load(tmp_path, split, **arrays)
    assert np.array_equal(found.x[:, 0].numpy(), X)
    assert found.y.tolist() == Y.tolist()
    assert any(names["x"] in note for note in found.notes) == (names["x"] != "x")


def test_both_splits_in_one_file(tmp_path: Path) -> None:
    """As in keras' mnist.npz and in MedMNIST."""
    keras = {"x_train": X[:3], "y_train": Y[:3], "x_test": X[3:], "y_test": Y[3:]}
    assert len(load(tmp_path, "train", **keras)) == 3
    assert len(load(tmp_path, "test", **keras)) == 1
    med = {
        f"{s}_{k}": v
        for s, n in (("train", 2), ("val", 4), ("test", 3))
        for k, v in (("images", X[:n]), ("labels", Y[:n, None]))
    }
    assert len(load(tmp_path, "train", **med)) == 2
    assert len(load(tmp_path, "test", **med)) == 3
    with pytest.raises(EvaluationError, match="no array 'x' of the split 'test'"):
        load(tmp_path, "test", x_train=X, y_train=Y)


def test_arrays_that_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="several arrays that may be x: images, data"):
        load(tmp_path, images=X, data=X, labels=Y)
    with pytest.raises(EvaluationError, match="holds first, second, but no array 'x'"):
        load(tmp_path, first=X, second=Y)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("float32", -1e-7, 1.000001),
        ("float64", -3e-6, 1 + 1e-12),
        ("float16", 0, 1.0009765625),
        ("float32", 0, 1.000009),
    ],
)
def test_rounding_at_the_ends_of_the_box_is_no_error(tmp_path: Path, dtype: str, low: float, high: float) -> None:
    x = X.astype(dtype).copy()
    x[0, 0, 0], x[1, 1, 1] = low, high
    found = load(tmp_path, x=x, y=Y)
    assert 0 <= float(found.x.min()) <= float(found.x.max()) == 1
    assert np.array_equal(found.x[2:, 0].numpy(), x[2:].astype("float32")), "nothing else is moved"
    assert any("by rounding" in note and "moved to its ends" in note for note in found.notes)


@pytest.mark.parametrize(("value", "shown"), [(1.00002, "1.00002"), (1.01, "1.01"), (-2e-5, "-2e-05")])
def test_more_than_rounding_is_told_in_enough_digits(tmp_path: Path, value: float, shown: str) -> None:
    x = X.copy()
    x[2, 0, 0] = value
    with pytest.raises(EvaluationError, match=rf"({shown}).*but \[0, 1\] was expected \(image 2\)"):
        load(tmp_path, x=x, y=Y)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ((X > 0.5).astype("uint8"), True),
        ((X / 255).astype("float32"), True),
        ((16 * X).astype("uint8"), True),
        ((255 * X).astype("uint8"), False),
        (X > 0.5, False),
        (X / 2, False),
    ],
)
def test_images_that_were_scaled_twice_are_told(tmp_path: Path, x: np.ndarray, said: bool) -> None:
    found = load(tmp_path, x=x, y=Y)
    assert any("all but black" in note for note in found.notes) == said


@pytest.mark.parametrize(
    ("x", "advice"),
    [
        ((255 * X).astype("int64"), "astype('uint8')"),
        ((65_535 * X).astype("uint16"), "x / 65535"),
        ((X - 0.5).astype("float32"), "Scale the images"),
        ((100 * X - 50).astype("int16"), "divide them by the value of white"),
    ],
)
def test_advice_fits_what_was_found(tmp_path: Path, x: np.ndarray, advice: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        load(tmp_path, x=x, y=Y)
    assert advice in caught.value.do


def test_four_channels_last(tmp_path: Path) -> None:
    x = np.random.RandomState(0).rand(4, 7, 6, 4)
    assert load(tmp_path, x=x, y=Y).shape == (4, 7, 6)
