"""Files that are no properties and no lists of instances are refused with their line, never with a traceback."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robcert.errors import UsageError
from robcert.verification import Property
from robcert.verification.competition import read_instances
from robcert.verification.parse import read_vnnlib

GOOD = """; a comment
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (or (and (>= X_0 0) (<= X_0 1) (>= X_1 -1e-3) (<= X_1 .5)) (and (= X_0 1) (= X_1 2))))
(assert (or (<= (+ Y_0 (* -2 Y_1)) 0.5) (and (> Y_0 1) (< Y_1 (- 3)))))
"""
_SIGNS = ["(", ")", "assert", "and", "or", "<=", ">=", "<", ">", "=", "+", "-", "*"]
_NAMES = ["X_0", "X_1", "X_9", "Y_0", "Y_1", "X_", "Y_-1", "declare-const", "Real", "Int", "check-sat", "é", "\x00"]
WORDS = [*_SIGNS, *_NAMES, "0", "1e400", "-1e308", "nan", "1/3", ";", "\n"]


def read(path: Path, text: str) -> Property | str:
    """The property, or the message of the refusal."""
    path.write_text(text, encoding="utf-8")
    try:
        return read_vnnlib(path)
    except UsageError as error:
        return error.found


@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_any_words(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    found = read(tmp_path_factory.mktemp("p") / "p.vnnlib", " ".join(words))
    assert isinstance(found, Property) or re.search(r", line \d+: ", found)


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_a_property_with_some_words_changed(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    draw = random.Random(seed)
    parts = re.split(r"([()\s])", GOOD)
    for _ in range(count):
        parts[draw.randrange(len(parts))] = draw.choice(WORDS)
    found = read(tmp_path_factory.mktemp("p") / "p.vnnlib", "".join(parts))
    if isinstance(found, str):
        line = re.search(r", line (\d+): ", found)
        assert line is not None
        assert 1 <= int(line[1]) <= "".join(parts).count("\n") + 1
    else:
        for region in found.regions:
            assert all(a <= b for a, b in zip(region.low, region.high, strict=True))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("(* -2 Y_1)", "(* -2 Y_7)", 7),
        ("(declare-const X_1 Real)", "(declare-const X_1 Int)", 3),
        ("(declare-const Y_1 Real)", "(declare-const Z_1 Real)", 5),
        ("(<= X_1 .5)", "(<= X_1 X_0)", 6),
        ("(<= X_1 .5)", "(<= Y_1 .5)", 3),  # X_1 has no upper bound: the line of its declaration
        ("(- 3)", "(- 1e400)", 7),
        ("(> Y_0 1)", "(> (* 1e308 (* 1e308 Y_0)) 1)", 7),
        ("; a comment", "(assert (<= Y_0", 1),
        (";", "\n\n)", 3),
    ],
)
def test_the_line_is_named(tmp_path: Path, old: str, new: str, line: int) -> None:
    assert isinstance(read(tmp_path / "p.vnnlib", GOOD), Property)
    found = read(tmp_path / "p.vnnlib", GOOD.replace(old, new))
    assert isinstance(found, str)
    assert f", line {line}: " in found


def test_a_strict_bound_of_an_input_leaves_its_end_out(tmp_path: Path) -> None:
    found = read(tmp_path / "p.vnnlib", GOOD.replace("(<= X_0 1)", "(< X_0 1)"))
    assert isinstance(found, Property)
    assert 1 - 1e-15 < found.regions[0].high[0] < 1


@given(st.text(alphabet="ab.,\n\r 0159e-+inf\t\"'", max_size=40))
def test_any_list_of_instances(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("i") / "instances.csv"
    path.write_text(text, encoding="utf-8")
    wanted = [line.split(",") for line in text.splitlines() if line.strip()]
    try:
        rows = read_instances(path)
    except UsageError as error:
        found = error.found
    else:
        assert len(rows) == len(wanted) > 0
        assert all(row.seconds > 0 and row.model and row.prop for row in rows)
        return
    assert re.search(r"line \d+: ", found) or not wanted
