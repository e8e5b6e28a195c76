"""Folders of pictures as a network names them: by class, WordNet id or number, resized as it wants them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robcert.data import load_dataset
from robcert.data.pictures import read_pictures
from robcert.errors import EvaluationError, UsageError
from robcert.preparation import Labels, Pipeline, Preparation

LABELS = Labels(("tench, Tinca tinca", "great white shark", "cock", "crane", "crane"), ())
IDS = Labels(LABELS.names, ("n01440764", "n01484850", "n01514668", "n02012849", "n03126707"))


def folder(place: Path, *names: str, size: tuple[int, int] = (40, 30)) -> str:
    numbers = np.random.default_rng(0)
    for name in names:
        (place / name).mkdir(parents=True)
        for picture in ("a.png", "b.png"):
            Image.fromarray(numbers.integers(0, 256, (*size, 3), dtype=np.uint8)).save(place / name / picture)
    return f"folder:{place}"


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (LABELS, ("tench", "cock"), [0, 2]),
        (LABELS, ("Tinca tinca", "Great_White-Shark"), [0, 1]),
        (LABELS, ("4", "1", "0"), [0, 1, 4]),
        (IDS, ("n01484850", "n03126707"), [1, 4]),
        (IDS, ("n02012849", "tench", "2"), [0, 2, 3]),
    ],
)
def test_folders_are_numbered_by_the_names_of_the_network(
    labels: Labels, names: tuple[str, ...], expected: list[int], tmp_path: Path
) -> None:
    data = load_dataset(folder(tmp_path, *names), preparation=Preparation("net", None, labels))
    assert sorted(set(data.y.tolist())) == expected
    assert data.classes == labels.names and not data.ranked
    assert any("classes as net calls them" in note for note in data.notes)
    order = data.class_order
    assert order is not None and sorted(order.values()) == expected
    again = load_dataset(data.name, class_order=order)
    assert again.y.tolist() == data.y.tolist(), "a record names the numbers"


@pytest.mark.parametrize(
    ("names", "said", "do"),
    [
        (("tench", "cocks"), "'cocks'", "Did you mean 'cock'?"),
        (("tench", "crane"), "'crane'", "--class-order"),
        (("tench", "5"), "'5'", "--class-order"),
        (("0", "tench"), "class 0", "--class-order"),
        (("n01440764", "tench"), "'n01440764'", "--class-order"),
    ],
)
def test_what_is_no_class_of_the_network_is_refused(names: tuple[str, ...], said: str, do: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        load_dataset(folder(tmp_path, *names), preparation=Preparation("net", None, LABELS))
    assert said in error.value.found
    assert do in error.value.do


def test_a_class_order_goes_first(tmp_path: Path) -> None:
    data = load_dataset(
        folder(tmp_path, "x", "y"), class_order={"x": 3, "y": 1}, preparation=Preparation("net", None, LABELS)
    )
    assert sorted(set(data.y.tolist())) == [1, 3]


def imagenet() -> tuple[tuple[str, ...], tuple[str, ...]]:
    from robcert.vision import mend

    mend()
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return tuple(info.label_names()), tuple(info.label_descriptions())


def test_wordnet_ids_of_a_network_that_has_names_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, texts = imagenet()
    short = Labels(tuple(text.partition(",")[0] for text in texts))
    name = folder(tmp_path, ids[7], ids[500])
    assert sorted(set(load_dataset(name, preparation=Preparation("net", None, short)).y.tolist())) == [7, 500]
    turned = Preparation("net", None, Labels(short.names[::-1]))
    with pytest.raises(UsageError, match="no class of net"):
        load_dataset(name, preparation=turned)
    monkeypatch.setitem(sys.modules, "timm.data.imagenet_info", None)
    with pytest.raises(EvaluationError, match="WordNet ids") as error:
        load_dataset(name, preparation=Preparation("net", None, short))
    assert "robcert[timm]" in error.value.do


def test_torchvision_has_the_classes_of_imagenet() -> None:
    from robcert.network.libraries import libraries
    from robcert.preparation import same_classes

    labels = libraries.get("torchvision").described("resnet18@IMAGENET1K_V1").labels
    assert labels is not None
    assert same_classes(labels.names, imagenet()[1])


def test_pictures_of_any_size_get_that_of_the_network(tmp_path: Path) -> None:
    name = folder(tmp_path, "tench")
    folder(tmp_path, "cock", size=(33, 57))
    pipeline = Pipeline((24,), (16, 20), "bilinear")
    data = load_dataset(name, preparation=Preparation("net", pipeline, LABELS))
    assert data.shape == (3, 16, 20) and data.pipeline == pipeline
    assert any("resized to 24 (bilinear), centre 16x20" in note for note in data.notes)
    files, x, notes = read_pictures(tmp_path, (3, 16, 20), pipeline)
    assert len(files) == 4 and tuple(x.shape[1:]) == (3, 16, 20) and any("resized" in note for note in notes)


def test_grey_and_deep_pictures(tmp_path: Path) -> None:
    (tmp_path / "cock").mkdir()
    grey = np.linspace(0, 255, 40 * 30).reshape(40, 30)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "cock" / "a.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "cock" / "b.png")
    data = load_dataset(
        f"folder:{tmp_path}", preparation=Preparation("net", Pipeline((20,), (16, 16), "bicubic"), LABELS)
    )
    assert data.shape == (1, 16, 16)
    assert float((data.x[0] - data.x[1]).abs().max()) < 2 / 255, "16 bits are the same picture"
    assert 0 <= float(data.x.min()) <= float(data.x.max()) <= 1


def test_a_picture_that_is_smaller_than_its_centre_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="30x40 where its centre of 50x50 is to be cut out"):
        load_dataset(folder(tmp_path, "cock"), preparation=Preparation("net", Pipeline((), (50, 50)), LABELS))
