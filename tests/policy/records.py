"""A gate record of every verdict, made by hand, with names that a test chooses."""

from __future__ import annotations

from typing import Any

from robcert.policy.record import (
    CountsRecord,
    GatedModel,
    GateRecord,
    PairsRecord,
    PolicyRecord,
    RequirementRecord,
    RunUse,
    WitnessRecord,
)
from robcert.runs.record import DataRecord, LegRecord, Versions

HOSTILE = [
    "<script>alert(1)</script>",
    "%0A::error::forged",
    "\n::error::forged",
    "\r\n::set-output name=verdict::proven",
    "##[error]forged",
    "\"quotes\" and 'quotes' & <b>",
    "| a | b |\n| --- |",
    "`code` *bold* [link](javascript:alert(1)) @everyone ![x](http://example.com/x.png)",
    "]]> <!-- -->",
    "\x00\x07\x1b[31mred\x1b[0m",
    "\u202eabc\u2028def",
    "{{ 7 * 7 }} {% raw %} ${IFS} $(reboot)",
    "x" * 10_000,
    "ü€😀",
    "\ud800",
]
"""Labels, files and names that would like to be more than that."""


def record(
    name: str = "digits-l2nnn", requirement: str = "robust", path: str = "robcert.toml", **more: Any
) -> GateRecord:
    """Four requirements, one of each verdict."""
    leg = LegRecord(
        attack="pgd", iterations=20, restarts=2, entered=65, attacked_correct=165, newly_broken=128,
        interval=(0.49, 0.61), forwards=1408, backwards=1280, seconds=0.5, stopped=True,
    )  # fmt: skip

    def one(verdict: Any, kind: str, line: int, **rest: Any) -> RequirementRecord:
        given = {
            "model": name, "name": f"{requirement} {line}", "kind": kind, "title": "accuracy under attack",
            "sign": "at least", "limit": 0.8, "norm": "l2", "eps": 0.25, "line": line, "verdict": verdict,
            "reason": "165 of 300 images stand", "value": 0.55, "bounds": (0.5, 0.6), "confidence": 0.95,
            "counts": CountsRecord(n=300, wrong=7, broken=128, certified=0, open=165, pass_at=252, fail_at=228),
            "pairs": None, "converged": None, "needed": None, "run": 0, "forwards": 1408, "backwards": 1280,
            "witnesses": [WitnessRecord(index=3, label=1, adversarial_label=7, distance=0.2, attack="pgd")],
        }  # fmt: skip
        return RequirementRecord(**{**given, **rest})

    pairs = PairsRecord(before=290, lost=4, won=1, mcnemar=0.1875, newly_broken=[5, 9, 12, 40])
    return GateRecord(
        verdict="failed",
        passed=False,
        policy=PolicyRecord(path=path, sha256="a" * 64),
        data=DataRecord(name=more.get("data", "digits"), split="test", n=300, seed=0, sha256="b" * 64),
        of=500,
        models=[GatedModel(name=name, sha256="c" * 64)],
        requirements=[
            one("proven", "natural_accuracy", 6, run=None, forwards=0, backwards=0, norm=None, eps=None),
            one("empirical", "attacked_accuracy", 10, converged=False),
            one("inconclusive", "attacked_accuracy_drop", 16, pairs=pairs, needed=900),
            one("failed", "attacked_accuracy", 22),
        ],
        runs=[
            RunUse(
                model=name, norm="l2", eps=0.25, plan="pgd:20x2,cw:1k", certify="gap", legs=[leg], forwards=1408,
                backwards=1280, seconds=0.5, stopped="the verdict cannot change any more", plateau=None,
                directory=more.get("directory", "runs/one"),
            )
        ],
        versions=Versions(robcert="0.1.0", torch="2.13.0", numpy="2.4.6", python="3.11.7"),
        device="cpu",
        seconds=1.5,
    )  # fmt: skip
