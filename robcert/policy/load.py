"""From a file to a policy; an error names the line and the nearest right key."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from robcert.errors import UsageError, did_you_mean
from robcert.policy.lines import Path as Place
from robcert.policy.lines import lines_of, nearest
from robcert.policy.schema import SHALLOW, ModelEntry, Policy, Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

DEFAULT = "robcert.toml"
_WAY_OUT = "robcert gate --init MODEL writes a policy to start from"


@dataclass(frozen=True)
class Source:
    """A policy and where it stands.

    Attributes:
        policy: what it says.
        path: the file, as it was named.
        lines: the line of each requirement.
        keys: the line of each key of [gate].
    """

    policy: Policy
    path: Path
    lines: tuple[int, ...]
    keys: dict[str, int] = field(default_factory=dict)

    def place(self, key: str) -> str:
        """Return the place of a key of [gate], as editors read it."""
        return f"{self.path}:{self.keys.get(key, 1)}"

    def beside(self, name: str) -> Path:
        """A path that the policy names is relative to the policy."""
        return self.path.parent / name

    def instead(
        self,
        entries: Sequence[ModelEntry],
        class_order: Path | None = None,
        time_per_image: float | None = None,
        time_budget: float | None = None,
    ) -> Source:
        """The same policy for other models; one in place of one keeps the name and what is said of its file.

        Args:
            entries: the models; none: those of the policy.
            class_order: a file, relative to the current folder, in place of that of the policy.
            time_per_image, time_budget: in place of those of the policy.
        """
        update: dict[str, Any] = {}
        if len(entries) == len(self.policy.models) == 1:
            said = {key: getattr(entries[0], key) for key in entries[0].model_fields_set}
            update["models"] = (self.policy.models[0].model_copy(update=said),)
        elif entries:
            update["models"] = tuple(entries)
        if class_order is not None:
            update["class_order"] = str(class_order.absolute())
        if time_per_image is not None:
            update["time_per_image"] = time_per_image
        if time_budget is not None:
            update["time_budget"] = time_budget
        return replace(self, policy=self.policy.model_copy(update=update))


def load_policy(path: Path | None = None) -> Source:
    """Read a policy.

    Args:
        path: the file; by default robcert.toml, else [tool.robcert.gate] in pyproject.toml.

    Raises:
        UsageError: there is none, or it is wrong.
    """
    if path is None:
        path, table, place = _found()
    else:
        content = _parse(path)
        table, place = _section(content)
        if table is None:
            raise UsageError(f"{path} has no [gate] section", _WAY_OUT)
    lines = lines_of(path.read_text(encoding="utf-8"))
    try:
        Policy.model_validate(table, context=SHALLOW)  # a typo is said at once
        policy = Policy.model_validate(table)
    except ValidationError as error:
        raise _explained(path, error, lines, place, table) from None
    ordered = tuple(nearest(lines, (*place, "require", k)) for k in range(len(policy.require)))
    return Source(policy, path, ordered, {key: nearest(lines, (*place, key)) for key in table})


def _found() -> tuple[Path, dict[str, Any], Place]:
    for name in (DEFAULT, "pyproject.toml"):
        path = Path(name)
        if path.is_file():
            table, place = _section(_parse(path))
            if table is not None:
                return path, table, place
    raise UsageError(f"there is no policy: no [gate] in {DEFAULT}, no [tool.robcert.gate] in pyproject.toml", _WAY_OUT)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the policy {path} cannot be read ({error.strerror})", _WAY_OUT) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "Mend it; strings need quotes") from None


def _section(content: dict[str, Any]) -> tuple[dict[str, Any] | None, Place]:
    for place in (("gate",), ("tool", "robcert", "gate")):
        inner: Any = content
        for key in place:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            return inner, place
    return None, ()


def _explained(path: Path, error: ValidationError, lines: dict[Place, int], place: Place, table: Any) -> UsageError:
    """All problems of a policy, a line each, in the order of the file."""
    told: list[tuple[int, str, str]] = []
    for problem in error.errors():
        inside = _real(problem["loc"], table)
        message = str(problem["msg"]).removeprefix("Value error, ")
        found, _, do = message.partition("\n")
        key = str(inside[-1]) if inside else ""
        if problem["type"] == "extra_forbidden":
            owner = _owner(inside)
            found, do = f"unknown key {key!r}", did_you_mean(key, owner.model_fields)
        elif problem["type"] == "missing":
            found = f"{key} is missing"
        elif inside and isinstance(inside[-1], str) and inside[-1] != "require":
            found = f"{key}: {found[:1].lower()}{found[1:]}"
        if problem["type"] not in ("value_error", "extra_forbidden", "missing"):
            found = f"{found}, found {problem['input']!r:.60}"
        unknown = found.partition("unknown key '")[2].partition("'")[0]
        line = nearest(lines, (*place, *inside, *([unknown] if unknown and unknown != key else [])))
        told.append((line, found, do))
    told.sort()
    found = "\n".join(f"{path}:{line}: {text}" for line, text, _ in told)
    return UsageError(found, next((do for _, _, do in told if do), ""))


def _real(location: tuple[int | str, ...], table: Any) -> tuple[int | str, ...]:
    """The keys of the file behind a place in the model: ``limit`` stands under the key of its kind."""
    from robcert.policy.kinds import kinds

    path: list[int | str] = []
    inner: Any = table
    for part in location:
        if part == "limit" and isinstance(inner, dict):
            part = next((key for key in inner if key in kinds), part)
        path.append(part)
        inner = _entry(inner, part)
    return tuple(path)


def _entry(content: Any, part: int | str) -> Any:
    if isinstance(content, dict):
        return content.get(part)
    return content[part] if isinstance(content, list) and isinstance(part, int) and part < len(content) else None


def _owner(path: tuple[int | str, ...]) -> type[BaseModel]:
    if path and path[0] == "require":
        return Requirement
    return ModelEntry if path and path[0] == "models" and len(path) > 1 else Policy
