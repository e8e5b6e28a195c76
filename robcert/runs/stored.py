"""The runs that lie in a folder, as data for a table; torch is not imported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, cast

from robcert.errors import UsageError, did_you_mean

State = Literal["finished", "stopped early", "unfinished", "unreadable"]


@dataclass(frozen=True)
class Stored:
    """A run, or one model of it.

    Attributes:
        run: its directory.
        command: of robcert.
        model: the name of the network.
        data: the name of the images and how many they are, "digits (500)".
        norm, eps: of the threat, where it has one; eps is the budget that the shares are for, the largest.
        state: "finished"; "stopped early" where the plan was not run to its end; "unfinished", which the same command
            takes up again; "unreadable" by this version.
        natural, attacked, certified: shares of images that are right without an attack, under the attacks, and proven.
        open: images that are neither broken nor proven.
        changed: when something was written to it last.
        size: bytes of its files.
    """

    run: str
    command: str
    model: str
    data: str
    norm: str | None
    eps: float | None
    state: State
    natural: float | None
    attacked: float | None
    certified: float | None
    open: int | None
    changed: datetime
    size: int

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self) | {"changed": self.changed.isoformat(timespec="seconds")}


SORTS: dict[str, Callable[[Stored], Any]] = {
    "newest": lambda run: -run.changed.timestamp(),
    "name": lambda run: run.run,
    "model": lambda run: (run.model, run.run),
    "attacked": lambda run: (run.attacked is None, -(run.attacked or 0)),
    "certified": lambda run: (run.certified is None, -(run.certified or 0)),
    "size": lambda run: -run.size,
}
"""Orders of a list of runs, by name; what has no such number comes last."""


def stored_runs(folder: Path, sort: str = "newest") -> list[Stored]:
    """Return the runs directly below a folder, or the folder itself where it is one; a row a model.

    Args:
        folder: usually ``runs``.
        sort: a name in `SORTS`.

    Raises:
        UsageError: no such folder or order.
    """
    if sort not in SORTS:
        raise UsageError(f"unknown order {sort!r}", did_you_mean(sort, SORTS))
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", "Runs lie below runs/ by default; name another folder")
    places = [folder] if _is_run(folder) else [place for place in sorted(folder.iterdir()) if _is_run(place)]
    return sorted((run for place in places for run in _rows(place)), key=SORTS[sort])


def remove_runs(folder: Path, names: Sequence[str]) -> list[Path]:
    """Delete the directories of some runs, all or none.

    Args:
        folder: in which they lie.
        names: of the directories in it, or their paths.

    Returns:
        What was deleted.

    Raises:
        UsageError: one of them is no run in the folder, or a link.
    """
    chosen = [folder / Path(name).name for name in names]
    for name, place in zip(names, chosen, strict=True):
        elsewhere = Path(name).parent not in (Path(), folder)
        if elsewhere or place.is_symlink() or not _is_run(place):
            known = [run.name for run in folder.iterdir() if _is_run(run)] if folder.is_dir() else []
            raise UsageError(f"{name} is no run in {folder}", did_you_mean(name, known))
    for place in chosen:
        shutil.rmtree(place)
    return chosen


def _is_run(place: Path) -> bool:
    return place.is_dir() and (place / "run.json").is_file()


def _rows(place: Path) -> Iterator[Stored]:
    files = [file for file in place.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    changed = datetime.fromtimestamp(max(file.stat().st_mtime for file in files), timezone.utc)

    def row(state: State, command: str = "", model: str = "", data: str = "", **known: Any) -> Stored:
        blank = dict.fromkeys(("norm", "eps", "natural", "attacked", "certified", "open"))
        values = {**blank, **known}
        return Stored(str(place), command, model, data, state=state, changed=changed, size=size, **values)

    try:
        spec, record = _read(place / "run.json"), _read(place / "record.json")
        assert spec is not None
        models = cast("list[dict[str, Any]]", spec["models"])
        sets = spec["data"] if isinstance(spec["data"], list) else [spec["data"]] * len(models)
        found = list(record["models"]) if record and isinstance(record.get("models"), list) else []
        for number, (model, data) in enumerate(zip(models, sets, strict=True)):
            images = f"{data['name']} ({data['n']})"
            known = _threat(spec)
            state: State = "finished" if record else "unfinished"
            if spec["command"] == "attack":
                one = found[number] if number < len(found) else None
                state = "unfinished" if one is None else "stopped early" if one.get("stopped") else "finished"
                known |= {} if one is None else _of_attack(one)
            elif spec["command"] == "certify" and number < len(found):
                known |= _of_certificates(found[number])
            yield row(state, spec["command"], model["name"], images, **known)
    except (OSError, ValueError, KeyError, TypeError, AssertionError, AttributeError, IndexError):
        yield row("unreadable")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError("no table")
    return cast("dict[str, Any]", content)


def _threat(spec: dict[str, Any]) -> dict[str, Any]:
    options = spec.get("options", {})
    told = spec.get("threat") or options.get("threat") or options
    eps = told.get("eps")
    budgets = eps if isinstance(eps, list) else [] if eps is None else [eps]
    return {"norm": told.get("norm"), "eps": float(max(budgets)) if budgets else None}


def _last(value: Any) -> Any:
    """The entry of the largest budget; one budget has no list."""
    return value[-1] if isinstance(value, list) else value


def _of_attack(model: dict[str, Any]) -> dict[str, Any]:
    n, certificate, verdicts = model["n"], model["certificate"], model["verdicts"]
    standing = n - _last(verdicts["wrong"]) - _last(verdicts["broken"])
    return {
        "natural": model["natural_correct"] / n,
        "attacked": standing / n,
        "certified": None if certificate is None else _last(verdicts["certified"]) / n,
        "open": _last(verdicts["open"]),
    }


def _of_certificates(model: dict[str, Any]) -> dict[str, Any]:
    n, counted = len(model["images"]), _last(model.get("certified_correct"))
    return {
        "natural": model["natural_correct"] / n if model.get("natural_correct") is not None else None,
        "certified": None if counted is None else counted / n,
    }
