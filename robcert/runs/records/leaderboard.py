"""The record of `robcert leaderboard`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from robcert.runs.record import DataRecord, Strict, ThreatRecord
from robcert.runs.records import Record


class StandingRecord(Strict):
    """A model at one eps, over all runs that speak of it: images that no attack broke, and those that are certified."""

    eps: float
    attacked: int | None = Field(description="right, and broken by no attack; null where no run attacked at this eps")
    certified: int | None = Field(description="null where no run certified at this eps")


class EntryRecord(Strict):
    """One model."""

    model: str
    sha256: str = Field(description="of its file")
    natural: int = Field(description="right without an attack")
    standing: list[StandingRecord] = Field(description="in the order of the threat's eps")
    stopped: bool = Field(description="an attack was ended early: its images that are open may not have been attacked")
    runs: list[str]


class BoardRecord(Strict):
    """Models that answered for the same images under the same threat."""

    threat: ThreatRecord
    data: DataRecord
    models: list[EntryRecord] = Field(description="the best first")


class LeaderboardRecord(Record):
    """The output of ``robcert leaderboard --format json``."""

    schema_: Literal["robcert.leaderboard/1"] = Field(default="robcert.leaderboard/1", alias="schema")
    sort: str
    boards: list[BoardRecord] = Field(description="one for each threat and set of images")

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each model and eps."""
        return [
            {
                "model": entry.model,
                "data": board.data.name,
                "norm": board.threat.norm,
                "n": board.data.n,
                "natural": entry.natural,
                **at.model_dump(),
            }
            for board in self.boards
            for entry in board.models
            for at in entry.standing
        ]
