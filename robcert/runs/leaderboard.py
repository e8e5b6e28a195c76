"""``robcert.leaderboard``: finished runs as models x threats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from robcert.errors import EvaluationError, UsageError, did_you_mean
from robcert.runs.record import DataRecord, ThreatRecord
from robcert.runs.records.certify import CertifyRecord
from robcert.runs.records.leaderboard import BoardRecord, EntryRecord, LeaderboardRecord, StandingRecord
from robcert.runs.run_reader import read_verdicts
from robcert.runs.summary import as_list

SORTS: dict[str, Callable[[EntryRecord], Any]] = {
    "attacked": lambda entry: ([-1 if at.attacked is None else at.attacked for at in entry.standing], entry.natural),
    "certified": lambda entry: ([-1 if at.certified is None else at.certified for at in entry.standing], entry.natural),
    "natural": lambda entry: entry.natural,
}
"""What a model is ranked by; of several budgets the largest counts first."""


@dataclass
class _Found:
    """What one run says of one model: images by index."""

    run: str
    model: str
    sha256: str
    data: DataRecord
    threat: ThreatRecord
    natural: int
    stopped: bool = False
    wrong: dict[float, set[int]] = field(default_factory=dict[float, set[int]])
    certified: dict[float, set[int]] = field(default_factory=dict[float, set[int]])


def leaderboard(runs: str | Path | Sequence[str | Path], *, sort: str = "attacked") -> LeaderboardRecord:
    """Rank models under the threats of finished runs of `robcert.attack` and `robcert.certify`.

    Runs of the same model, images and threat are taken together: an image is broken at eps if one run broke it there,
    and certified if one run certified it.

    Args:
        runs: their directories.
        sort: "attacked", "certified" or "natural": what the order of models rests on; the largest eps counts first.

    Returns:
        A table for each threat and set of images.

    Raises:
        UsageError: no run, an unfinished run, or one of another command; an unknown order.
        EvaluationError: a certificate of one run that an attack of another contradicts.
    """
    if sort not in SORTS:
        raise UsageError(f"unknown order {sort!r}", did_you_mean(sort, SORTS))
    directories = [Path(run) for run in ([runs] if isinstance(runs, (str, Path)) else runs)]
    if not directories:
        raise UsageError("no run was named", "Example: robcert leaderboard runs/*")
    boards: dict[tuple[str, str, tuple[float, float]], list[_Found]] = {}
    for found in (one for directory in directories for one in _read(directory)):
        key = (found.data.sha256, found.threat.norm, found.threat.box)
        boards.setdefault(key, []).append(found)
    return LeaderboardRecord(sort=sort, boards=[_board(found, sort) for found in boards.values()])


def _read(directory: Path) -> Iterator[_Found]:
    path = directory / "record.json"
    try:
        text = path.read_text(encoding="utf-8")
        kind = json.loads(text).get("schema")
        if kind == "robcert.certify/1":
            yield from _certified(directory, CertifyRecord.model_validate_json(text))
            return
    except OSError:
        raise UsageError(f"{directory} holds no finished run (no {path.name})", "`robcert runs` lists them") from None
    except (ValueError, AttributeError, ValidationError) as error:
        raise UsageError(f"{path} is no record of this version ({error})", "Run its command again") from None
    if kind != "robcert.run/1":
        raise UsageError(f"{directory} is a run of neither attack nor certify ({kind})", "Leave it out")
    yield from _attacked(directory)


def _attacked(directory: Path) -> Iterator[_Found]:
    record = read_verdicts(directory)
    for model in record.models:
        stopped = model.stopped is not None
        found = _Found(
            str(directory), model.name, model.sha256, record.data, record.threat, model.natural_correct, stopped
        )
        for k, eps in enumerate(record.threat.eps):
            status = {image.index: as_list(image.status)[k] for image in model.images}
            found.wrong[eps] = {index for index, one in status.items() if one in ("wrong", "broken")}
            if model.certificate is not None:
                found.certified[eps] = {index for index, one in status.items() if one == "certified"}
        yield found


def _certified(directory: Path, record: CertifyRecord) -> Iterator[_Found]:
    for model in record.models:
        if model.confidence is not None:
            raise UsageError(
                f"{directory} certified by {model.method}, which speaks of another classifier, with a probability",
                "Leave it out",
            )
        found = _Found(str(directory), model.name, model.sha256, model.data, record.threat, model.natural_correct)
        for eps in record.threat.eps:
            found.certified[eps] = {image.index for image in model.images if image.radius > eps}
        yield found


def _board(found: list[_Found], sort: str) -> BoardRecord:
    budgets = sorted({eps for one in found for eps in one.threat.eps})
    models: dict[tuple[str, str], list[_Found]] = {}
    for one in found:
        models.setdefault((one.model, one.sha256), []).append(one)
    entries = [_entry(one, budgets) for one in models.values()]
    first = found[0]
    return BoardRecord(
        threat=first.threat.model_copy(update={"eps": budgets}),
        data=first.data,
        models=sorted(entries, key=lambda entry: _rank(entry, sort), reverse=True),
    )


def _rank(entry: EntryRecord, sort: str) -> Any:
    backwards = entry.model_copy(update={"standing": entry.standing[::-1]})
    return SORTS[sort](backwards)


def _entry(found: list[_Found], budgets: list[float]) -> EntryRecord:
    first = found[0]
    return EntryRecord(
        model=first.model,
        sha256=first.sha256,
        natural=first.natural,
        standing=[_standing(found, eps) for eps in budgets],
        stopped=any(one.stopped for one in found),
        runs=list(dict.fromkeys(one.run for one in found)),
    )


def _standing(found: list[_Found], eps: float) -> StandingRecord:
    attacks = [one for one in found if eps in one.wrong]
    proofs = [one for one in found if eps in one.certified]
    wrong = {index for one in attacks for index in one.wrong[eps]}
    certified = {index for one in proofs for index in one.certified[eps]}
    if wrong & certified:
        index = min(wrong & certified)
        broke, proved = (
            next(one.run for one in attacks if index in one.wrong[eps]),
            next(one.run for one in proofs if index in one.certified[eps]),
        )
        raise EvaluationError(
            f"image {index} is broken in {broke} and certified in {proved}, both at eps {eps:g}",
            "This is a defect of robcert: please report it with both runs",
        )
    n = found[0].data.n
    return StandingRecord(
        eps=eps,
        attacked=n - len(wrong) if attacks else None,
        certified=len(certified) if proofs else None,
    )
