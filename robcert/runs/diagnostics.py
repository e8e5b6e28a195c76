"""Named warnings: the signs that an attack failed rather than that the model held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robcert.criteria.misclassified import MISCLASSIFIED
from robcert.runs.proof import Attempt
from robcert.runs.record import PlateauRecord, WarningRecord
from robcert.search.problem import SearchProblem
from robcert.types import Status


@dataclass(frozen=True)
class _Diagnostic:
    """A sign that a leg notes of an image under ``note``, and its message; ``only_open``: of open images alone."""

    note: str
    name: str
    message: str
    advice: str
    only_open: bool = False


_DIAGNOSTICS = (
    _Diagnostic(
        "zero_gradient",
        "zero-gradients",
        "{count} open images gave a gradient of exactly zero in half of the steps or more",
        "their verdict says little: the attack had no direction (saturated or quantised network?)",
        only_open=True,
    ),
    _Diagnostic(
        "non_finite",
        "non-finite",
        "the model answered NaN or infinity near {count} images",
        "such points count as not broken; look for overflow in the network",
    ),
    _Diagnostic(
        "unconfirmed",
        "unconfirmed",
        "the verifier refused examples that the search had found, for {count} images",
        "the network may answer differently to the same input (randomised, or on the very boundary)",
    ),
    _Diagnostic(
        "random",
        "non-deterministic",
        "two identical calls gave different answers to {count} images",
        "one draw proves little: average the gradients and the verdicts over draws with --eot 20",
    ),
    _Diagnostic(
        "probabilities",
        "probabilities",
        "the model answers {count} images with probabilities (a softmax), not with logits",
        "gradients can vanish where a softmax is sure: give the network without it",
    ),
    _Diagnostic(
        "saturated",
        "saturated-logits",
        "the gradient of the cross-entropy is exactly 0 in float32 for {count} images, so large are the logits",
        "robcert's attacks take it at a temperature; an attack that does not can stand still there",
    ),
    _Diagnostic(
        "tiny",
        "tiny-logits",
        "the logits of {count} images lie within 0.001 of each other, so their softmax is all but uniform",
        "robcert's attacks take the cross-entropy at a temperature; one that does not can lose it to rounding",
    ),
    _Diagnostic(
        "unbounded",
        "unbounded-attack-fails",
        "with the whole box as the budget {count} of {of} open images that were tried still stand",
        "their verdict says little: gradients may be masked, or the model may give one answer everywhere; try square",
    ),
)

_ADVICE = {
    "gradient-free-wins": "gradients may be masked on these images: see what more queries (square, boundary) find "
    "there, or another objective, more restarts",
    "one-step-wins": "the loss may be rugged there, or the iterations wasted: try another step size, more restarts, "
    "square",
}


@dataclass(frozen=True)
class WeakerWin:
    """An attack that knows less has beaten those that know more (`robcert.runs.weaker_wins`).

    Attributes:
        name: of the warning.
        message: what was counted.
        positions: the images that it alone breaks.
    """

    name: str
    message: str
    positions: list[int]


def warnings(
    search: SearchProblem,
    statuses: list[list[Status]],
    attempt: Attempt,
    notes: list[dict[str, list[int]]],
    verdict: PlateauRecord | None,
    weaker_wins: Sequence[WeakerWin] = (),
) -> list[WarningRecord]:
    """The signs that an attack failed rather than that the model held (Carlini et al. 2019)."""
    given = [WarningRecord(name="model", message=text, advice="", images=[]) for text in search.model.warnings]
    if search.criterion is not MISCLASSIFIED:
        given.append(
            WarningRecord(
                name="criterion",
                message=f"what counts as success is {search.criterion.name!r}, not a wrong answer",
                advice="accuracies, distances and verdicts are about that",
                images=[],
            )
        )
    if attempt.refused:
        given.append(
            WarningRecord(
                name="no-certificate",
                message=f"nothing could be certified: {attempt.refused}",
                advice="every image is attacked; --certify none leaves this warning out",
                images=[],
            )
        )

    def noted(name: str, only_open: bool) -> list[int]:
        positions = sorted({position for note in notes for position in note.get(name, [])})
        still = [position for position in positions if not only_open or "open" in statuses[position]]
        return [int(search.images.index[position]) for position in still]

    for one in _DIAGNOSTICS:
        if images := noted(one.note, one.only_open):
            tried = noted(f"{one.note}_tried", False)
            message = one.message.format(count=len(images), of=len(tried))
            given.append(WarningRecord(name=one.name, message=message, advice=one.advice, images=images))
    for win in weaker_wins:
        images = [int(search.images.index[position]) for position in win.positions]
        advice = _ADVICE[win.name]
        given.append(WarningRecord(name=win.name, message=win.message, advice=advice, images=images))
    if verdict is not None and verdict.verdict == "falling":
        given.append(
            WarningRecord(
                name="not-converged",
                message=f"the sweep is still falling at its last leg ({verdict.attack}, {verdict.after} iterations)",
                advice="attacked accuracy is an upper bound that more iterations may well lower: lengthen the sweep",
                images=[],
            )
        )
    return given
