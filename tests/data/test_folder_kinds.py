"""Folders as people have them: what is left behind by programs, numbers as names, links, an order of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robcert.data import load_dataset
from robcert.data.subset import subset
from robcert.errors import EvaluationError, UsageError


def picture(path: Path, value: int, size: tuple[int, int] = (5, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def classes(root: Path, *names: str) -> str:
    """A class of one picture for each name, whose grey value is its place in ``names``."""
    for place, name in enumerate(names):
        picture(root / name / "1.png", place)
    return f"folder:{root}"


LEFT_BEHIND = [".ipynb_checkpoints", ".thumbnails", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found"]


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_programs_leave_behind_is_no_class_and_no_picture(tmp_path: Path, name: str) -> None:
    data = classes(tmp_path, "ant", "bee")
    picture(tmp_path / name / "1.png", 255)
    picture(tmp_path / "ant" / name / "1-copy.png", 255)
    picture(tmp_path / "ant" / "deep" / name / "er" / "1-copy.png", 255)
    picture(tmp_path / "bee" / "._1.png", 255)
    found = load_dataset(data)
    assert (found.classes, found.y.tolist()) == (("ant", "bee"), [0, 1])
    assert float(found.x.max()) == pytest.approx(1 / 255)


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["deeper/notes.txt"], [".hidden.png"]])
def test_a_folder_without_pictures_shifts_no_label(tmp_path: Path, content: list[str]) -> None:
    data = classes(tmp_path, "ant", "cat")
    (tmp_path / "bee").mkdir()
    for name in content:
        (tmp_path / "bee" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bee" / name).write_text("none")
    found = load_dataset(data)
    assert (found.classes, found.y.tolist()) == (("ant", "cat"), [0, 1])
    assert any("no picture and are no class: bee" in note for note in found.notes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([str(number) for number in range(1, 13)], [str(number) for number in range(1, 13)]),
        (["10", "9", "2", "0"], ["0", "2", "9", "10"]),
        (["007", "11", "8"], ["007", "8", "11"]),
        (["1", "10", "2", "other"], ["1", "10", "2", "other"]),
        (["b", "C", "a"], ["C", "a", "b"]),
        (["n10", "n9"], ["n10", "n9"]),
        (["\u0661", "\u0662"], ["\u0661", "\u0662"]),
    ],
)
def test_numbers_are_sorted_by_value(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    found = load_dataset(classes(tmp_path, *names))
    assert list(found.classes) == expected
    shown = [round(255 * float(image.max())) for image in found.x]
    assert [names[place] for place in shown] == expected, "the pictures are those of the classes"
    assert found.y.tolist() == list(range(len(names)))


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("order.txt", "cat\nant\n\nbee\n"),
        ("order.txt", "\ufeffcat\r\nant\r\nbee\r\n"),
        ("order.json", ["cat", "ant", "bee"]),
        ("order", ["cat", "ant", "bee"]),
        ("order.json", {"ant": 1, "bee": 2, "cat": 0}),
        ("order.json", {"0": "cat", "1": "ant", "2": "bee"}),
    ],
)
def test_an_order_from_a_file(tmp_path: Path, name: str, content: object) -> None:
    data = classes(tmp_path / "images", "ant", "bee", "cat")
    found = load_dataset(data, class_order=write(tmp_path / name, content))
    assert found.classes == ("cat", "ant", "bee")
    assert found.y.tolist() == [1, 2, 0], "the index of a picture does not depend on the order"
    plain = load_dataset(data)
    assert np.array_equal(plain.x.numpy(), found.x.numpy())
    assert found.class_order == {"cat": 0, "ant": 1, "bee": 2}
    assert (plain.class_order, plain.ranked, found.ranked) == (None, True, False)


def test_an_order_may_have_gaps_and_classes_without_pictures(tmp_path: Path) -> None:
    data = classes(tmp_path, "n02123045", "n02084071")
    found = load_dataset(data, class_order={"n02123045": 281, "n02084071": 150, "n01440764": 0})
    assert found.y.tolist() == [150, 281], "n02084071 comes first"
    assert len(found.classes) == 282
    assert (found.classes[0], found.classes[7], found.classes[281]) == ("n01440764", "7", "n02123045")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("cat\nant\n", "no number for 1 of 3 folders .*'bee'"),
        ("cat\nant\nbee\ncat\n", "'cat' or its number 3 twice"),
        ({"ant": 1, "bee": 1, "cat": 0}, "'bee' or its number 1 twice"),
        ({"ant": -1, "bee": 1, "cat": 0}, "'ant' the number -1"),
        ({"ant": "x", "bee": 1, "cat": 0}, "'ant' the number 'x'"),
        ({"ant": True, "bee": 1, "cat": 0}, "the number True"),
        ({"ant": 2**40, "bee": 1, "cat": 0}, "at most 1,048,576"),
        ("[1, 2", "is not JSON"),
        ("", "names no class"),
        ([1, 2, 3], "gives 1 the number 0"),
        ('"cat"', "no number for 3 of 3"),
    ],
)
def test_an_order_that_does_not_fit(tmp_path: Path, content: object, says: str) -> None:
    data = classes(tmp_path / "images", "ant", "bee", "cat")
    with pytest.raises(UsageError, match=says) as caught:
        load_dataset(data, class_order=write(tmp_path / "order", content))
    assert caught.value.do


def test_an_order_is_for_classes_that_have_names_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the class order .* cannot be read"):
        load_dataset(classes(tmp_path / "a", "ant"), class_order=tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="is no text"):
        load_dataset(classes(tmp_path / "a", "ant"), class_order=tmp_path / "binary")
    with pytest.raises(UsageError, match="have their numbers already"):
        load_dataset("digits", class_order=["a"])
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 3)), y=[0, 1])
    with pytest.raises(UsageError, match="are numbers already"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}", class_order=["a", "b"])


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    picture(tmp_path / "store" / "x" / "1.png", 7)
    picture(tmp_path / "store" / "y.PNG", 8)
    root = tmp_path / "images"
    (root / "ant").mkdir(parents=True)
    (root / "ant" / "loop").symlink_to(root / "ant")
    (root / "ant" / "up").symlink_to(tmp_path)
    (root / "ant" / "one.png").symlink_to(tmp_path / "store" / "y.PNG")
    (root / "bee").symlink_to(tmp_path / "store")
    (root / "ant" / "up").unlink()
    found = load_dataset(f"folder:{root}")
    assert (found.classes, found.y.tolist()) == (("ant", "bee"), [0, 1, 1])
    assert [round(255 * float(image.max())) for image in found.x] == [8, 7, 8]
    (root / "ant" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(EvaluationError, match=r"gone.png is a link to a file that is not there"):
        load_dataset(f"folder:{root}")


def test_every_case_of_a_suffix_and_what_is_passed_over(tmp_path: Path) -> None:
    data = classes(tmp_path, "ant", "bee")
    for name in ("a.PNG", "b.JPeG", "c.TIFF", "d.jfif"):
        (tmp_path / "ant" / name).write_bytes(b"")
        Image.new("L", (5, 4), 9).save(tmp_path / "ant" / name, format="JPEG" if "j" in name.lower() else None)
    for name in ("notes.txt", "more.txt", "photo.heic", "none"):
        (tmp_path / "bee" / name).write_text("")
    picture(tmp_path / "cover.png", 3)
    found = load_dataset(data)
    assert found.y.tolist() == [0] * 5 + [1]
    said = "\n".join(found.notes)
    assert "4 files among the pictures were not read, by their suffix: 2 .txt" in said
    assert "1 .heic" in said
    assert "1 pictures beside the folders of classes belong to none (cover.png)" in said


def test_what_was_done_is_said_once_for_all_pictures(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[274] = 3
        Image.new("RGBA", (4, 4), (9, 9, 9, 50)).save(tmp_path / "a" / f"{number}.png", exif=exif)
    picture(tmp_path / "a" / "3.png", 9, (4, 4))
    notes = [note for note in load_dataset(f"folder:{tmp_path}").notes if "pictures" in note]
    assert [note.partition(": ")[2].partition(" pictures")[0] for note in notes] == ["3 of 4", "3 of 4"]
    assert all("(0.png)" in note for note in notes)


def test_depths_and_channels_are_mixed_without_loss(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", 51)
    Image.fromarray(np.full((4, 5), 40_000, dtype=np.uint16)).save(tmp_path / "a" / "2.png")
    Image.new("RGB", (5, 4), (0, 51, 255)).save(tmp_path / "a" / "3.png")
    found = load_dataset(f"folder:{tmp_path}").x[:, :, 0, 0]
    assert found.shape == (3, 3)
    assert found[0].tolist() == pytest.approx([0.2] * 3)
    assert found[1].tolist() == pytest.approx([40_000 / 65_535] * 3)
    assert found[2].tolist() == pytest.approx([0, 0.2, 1])


def test_of_a_subset_the_other_pictures_are_not_opened(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, name in enumerate(("bee", "ant", "cat")):
        (tmp_path / name).mkdir()
        for k in range(4 + 3 * label):
            Image.fromarray(rng.integers(0, 256, (5, 4), dtype=np.uint8)).save(tmp_path / name / f"{k}.png")
    whole, part = load_dataset(f"folder:{tmp_path}"), load_dataset(f"folder:{tmp_path}", n=8, seed=3)
    expected = subset(whole, 8, 3)
    for name in ("x", "y", "index"):
        assert torch.equal(getattr(part, name), getattr(expected, name))
    assert (part.seed, part.classes, len(part)) == (3, whole.classes, 8)
    paths = [path for name in ("ant", "bee", "cat") for path in sorted((tmp_path / name).iterdir())]
    for position, path in enumerate(paths):
        if position not in part.index.tolist():
            path.write_bytes(b"damaged")
    assert torch.equal(load_dataset(f"folder:{tmp_path}", n=8, seed=3).x, part.x)
    with pytest.raises(EvaluationError, match="damaged|cannot|picture"):
        load_dataset(f"folder:{tmp_path}", n=21)
