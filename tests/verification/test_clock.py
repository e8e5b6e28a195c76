"""The limit of time holds in whatever is computed, and leaves nothing behind."""

from __future__ import annotations

import signal
import threading
import time

import pytest
import torch

from robcert.verification.clock import OutOfTime, limit


def test_a_long_computation_ends() -> None:
    before, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(OutOfTime), limit(0.3):
        x = torch.eye(50)
        while True:
            x = x @ x
    assert 0.25 < time.monotonic() - began < 3
    assert signal.getsignal(signal.SIGALRM) == before
    time.sleep(0.5)  # no alarm is left


def test_what_swallows_exceptions_does_not_swallow_it() -> None:
    def stubborn() -> None:
        while True:
            try:
                time.sleep(1)
            except Exception:
                continue

    with pytest.raises(OutOfTime), limit(0.2):
        stubborn()


def test_an_alarm_that_was_swallowed_sounds_again() -> None:
    heard = 0
    with pytest.raises(OutOfTime), limit(0.1):
        while True:
            try:
                time.sleep(5)
            except OutOfTime:
                heard += 1
                if heard == 3:
                    raise


def test_a_destructor_ends_first() -> None:
    class Slow:
        def __del__(self) -> None:
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                pass

    with pytest.raises(OutOfTime), limit(0.1):
        slow = Slow()
        del slow
        time.sleep(5)


def test_what_is_quick_is_left_alone() -> None:
    with limit(0.2) as deadline:
        assert time.monotonic() < deadline
    time.sleep(0.3)


def test_another_thread_looks_at_the_deadline_itself() -> None:
    found: list[bool] = []

    def work() -> None:
        with limit(0.01) as deadline:
            time.sleep(0.05)
            found.append(time.monotonic() > deadline)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


def test_gradients_are_followed_after_an_alarm_at_the_edge_of_a_block_without_them() -> None:
    with pytest.raises(OutOfTime), limit(0.05):
        while True:  # the alarm comes before anything would set it back
            torch.set_grad_enabled(False)
    assert torch.is_grad_enabled()
