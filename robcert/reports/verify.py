"""The answers of `robcert verify`: a table for a person, and the text that the verification competition reads."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from robcert.progress import working
from robcert.reports import renderer
from robcert.reports.display import stderr
from robcert.reports.printed import printed
from robcert.runs.records.verify import AnswerRecord, VerifyRecord
from robcert.text import plain
from robcert.verification.competition import counterexample


@renderer("console", VerifyRecord)
def render_verify(record: VerifyRecord) -> str:
    """A row an instance, then what the words mean."""
    return printed(lambda console: _show(record, console))


def _show(record: VerifyRecord, console: Console) -> None:
    table = Table()
    for column in ("model", "property"):
        table.add_column(column, overflow="fold")
    for column in ("answer", "in reals", "by"):
        table.add_column(column, no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for one in record.answers:
        real = "unsat" if one.real else ""
        table.add_row(one.model, one.property, one.result, real, one.by, f"{one.seconds:.2f}", one.reason)
    console.print(table)
    if any(one.result == "unsat" for one in record.answers):
        if record.arithmetic == "executed":
            console.print(
                "unsat: no float32 input of the box is a counterexample, all rounding of the network included."
            )
        else:
            console.print("unsat: the network in real arithmetic has no counterexample; its rounding is left out.")
    if any(one.result == "sat" for one in record.answers):
        console.print("sat: --counterexamples DIR writes the inputs; --format vnncomp prints them.")


@renderer("vnncomp", VerifyRecord)
def render_vnncomp(record: VerifyRecord) -> str:
    """The word of each answer, and below "sat" the counterexample."""
    return "\n".join(map(result_text, record.answers))


def result_text(one: AnswerRecord) -> str:
    """Return what the competition's scripts expect of one instance."""
    if one.counterexample is None:
        return one.result
    outputs = [float("nan") if value is None else value for value in one.counterexample.y]
    return f"{one.result}\n{counterexample(one.counterexample.x, outputs)}"


@contextmanager
def answering(total: int) -> Generator[tuple[Callable[[AnswerRecord], None], Callable[[str], None]]]:
    """Progress on stderr: what is tried, and where there are several instances a line for each answer.

    Yields:
        A function that is told each answer, and one that is told each step.
    """
    with working("verify", total, "answers") as work:

        def answered(one: AnswerRecord) -> None:
            work.advance()
            if total > 1:
                words = (
                    f"[{work.done:.0f}/{total}] {one.model} {one.property}: {one.result} {one.by}, {one.seconds:.1f} s"
                )
                stderr().print(plain(words, 300), soft_wrap=True)

        def said(step: str) -> None:
            work.title = f"instance {work.done + 1:.0f} of {total}: {step}"
            if total == 1 and not stderr().is_terminal:
                stderr().print(plain(step), soft_wrap=True)

        yield answered, said
