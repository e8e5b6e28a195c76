"""What a command says when it fails."""

from __future__ import annotations

from .conftest import Answer


def says(answer: Answer, code: int, *texts: str) -> None:
    """The exit code; the message on stderr, in two parts: what was found and expected, and what to do."""
    assert answer.code == code, answer.err
    assert answer.out == "", "results only on stdout"
    assert "robcert: error: " in answer.err
    for text in texts:
        assert text in answer.err, answer.err
    assert len(answer.err.strip().splitlines()) >= 2, "it says what to do"
