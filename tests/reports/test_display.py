"""What is shown of work that goes on, with and without a terminal."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import robcert
from robcert.attacks.cw import CW
from robcert.attacks.fgsm import FGSM
from robcert.attacks.pgd import PGD
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.progress import Work, hush, listening, working
from robcert.reports.display import Display, duration, line, numbers
from robcert.search.budget import most_evaluations
from robcert.search.forecast import shares_left
from robcert.types import Threat


class Notes:
    """Keeps the work that it hears of, as it was when it ended."""

    def __init__(self) -> None:
        self.going: list[Work] = []
        self.ended: list[Work] = []

    def begin(self, work: Work) -> None:
        self.going.append(work)

    def end(self, work: Work) -> None:
        self.going.remove(work)
        self.ended.append(work)

    def hush(self) -> None:
        pass


def test_numbers_of_work() -> None:
    work = Work("images", 200, "images", done=50, note="12 certified", began=100.0)
    assert numbers(work, 110.0) == "50 of 200 images, 12 certified, 5.0/s, 30 s left"
    work.left = 90.0  # the work knows better
    assert numbers(work, 110.0) == "50 of 200 images, 12 certified, 5.0/s, 1 min 30 s left"
    assert numbers(Work("loading", began=0.0), 7.0) == "7 s so far"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (250, "4 min 10 s"), (1500, "25 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_long_work_has_lines_and_short_work_none() -> None:
    out = io.StringIO()
    with listening(Display(Console(file=out, width=200), first=0.05, every=0.05)):
        with working("outer") as outer, working("inner", 10, "images") as inner:
            inner.advance(4)
            while out.getvalue().count("\n") < 2:  # a hang is the failure
                time.sleep(0.01)
            assert outer.remaining(0.0) is None
        told = out.getvalue()
        hush()
    assert told.splitlines()[0].startswith("outer: 0 s so far; inner: 4 of 10 images")
    out = io.StringIO()
    with listening(Display(Console(file=out, width=200), first=1e9)), working("short"):
        pass
    assert out.getvalue() == ""


def test_in_a_terminal_the_bars_are_gone_when_results_are_printed() -> None:
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=True)
    display = Display(console)
    with listening(display):
        display.load("robcert attack: loading")
        with working("digits-plain: leg 1 of 2, cw:1k " + "x" * 80, 8, "images") as work:
            work.advance(2)
            console.print("a note", soft_wrap=True)
            while "2 of 8 images" not in out.getvalue():  # a hang is the failure
                time.sleep(0.01)
        hush()
        before = len(out.getvalue())
        console.print("the table")
    assert "a note" in out.getvalue()
    assert out.getvalue()[before:] == "the table\n"


def test_titles_of_others_are_one_line() -> None:
    assert "\n" not in line([Work("a\nb\x1b[2J", 3, "images")], 1.0)


def test_nobody_needs_to_listen() -> None:
    with working("alone", 2, "images") as work:
        work.advance(note="half")
    hush()
    assert (work.done, work.note) == (1.0, "half")


def test_the_work_of_an_attack_and_of_certificates_is_told() -> None:
    heard = Notes()
    model, data = load_model("digits-plain"), load_dataset("digits", n=20)
    with listening(heard):
        robcert.attack(
            model, data, Threat("l2", (0.5,)), "pgd:10x2", certify="none", cpu_threads=1, search_precision="float32"
        )
        robcert.certify(model, data, Threat("linf", (0.01,)), "ibp")
    assert heard.going == []
    titles = [work.title for work in heard.ended]
    assert titles[0].startswith("digits-plain: ")
    assert "images open" in heard.ended[0].note
    trial = next(work for work in heard.ended if work.title == "radius 0.01")
    assert trial.done == trial.total
    assert titles[-1] == "digits-plain: ibp, 20 images"


@pytest.mark.parametrize(
    ("attack", "goal", "most"),
    [
        (PGD(iterations=40), "decide", 40),
        (PGD(iterations=40, search_steps=5), "minimize", 200),
        (CW(iterations=1000), "decide", 9000),
        (FGSM(iterations=50), "decide", 2),
    ],
)
def test_the_budget_of_an_image(attack: object, goal: str, most: int) -> None:
    assert most_evaluations(attack, goal) == most  # type: ignore[arg-type]


def test_shares_by_hand() -> None:
    assert shares_left([0.0], [0.2, 0.4]) == pytest.approx([0.3])  # the mean of what was seen
    assert shares_left([0.3], [0.2, 0.4]) == pytest.approx([0.1])  # only the other one was as old
    assert shares_left([0.5], [0.2, 0.4]) == pytest.approx([0.5])  # older than all that ended
    assert shares_left([0.0], []) == [1.0]
    assert shares_left([], [0.5]) == []


share = st.floats(0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    ages=st.lists(share, min_size=1, max_size=8), ended=st.lists(share, max_size=8), earlier=st.lists(share, max_size=8)
)
def test_no_image_takes_more_than_its_budget(ages: list[float], ended: list[float], earlier: list[float]) -> None:
    left = shares_left(ages, ended, earlier)
    assert all(0.0 <= one <= 1.0 - age + 1e-9 for one, age in zip(left, ages, strict=True))


def test_shares_without_censoring_are_means() -> None:
    ended = np.random.default_rng(0).uniform(size=50)
    assert shares_left([0.0], list(ended)) == pytest.approx([float(ended.mean())])
