"""The sentence that says why a requirement got its verdict."""

from __future__ import annotations

from robcert.policy.record import CountsRecord, PairsRecord
from robcert.policy.verdict import Grade

SWEEPS = {
    "falling": "the sweep is still falling",
    "disputed": "the sweep is disputed: other attacks broke what it left",
    "undecided": "whether more iterations would break more is undecided",
}
"""By the verdict on a sweep that has not settled: what is said of it."""


def percent(share: float) -> str:
    """A share as a person writes it."""
    return f"{100 * share:.1f}%"


def reason_of_counts(
    verdict: Grade,
    counts: CountsRecord,
    bounds: tuple[float, float],
    confidence: float | None,
    limit: float,
    *,
    attacked: bool,
    sweep: str | None,
    stopped: str | None,
    needed: int | None,
    of: int,
) -> str:
    """For a requirement on a share of images."""
    standing = counts.certified + counts.open
    sure = "all images were seen" if confidence is None else f"at {100 * confidence:g}% confidence"
    low, high = bounds
    if not attacked:
        end = {
            "proven": f"at least {percent(low)}",
            "failed": f"at most {percent(high)}",
        }.get(verdict, f"between {percent(low)} and {percent(high)}")
        return f"{standing} of {counts.n} images: {end}, {sure}{_needed(verdict, needed, of)}"
    if verdict == "proven":
        return f"{counts.certified} of {counts.n} images are certified; {counts.pass_at} are enough for {limit:g}"
    if verdict == "failed" and counts.fail_at is not None and standing <= counts.fail_at:
        gone = f"{counts.broken} of {counts.n} images are broken and {counts.wrong} wrong without an attack"
        return f"{gone}: at most {percent(high)} stand, {sure}"
    stand = f"{standing} of {counts.n} images stand, {counts.certified} of them certified"
    if verdict == "failed":
        return f"{stand}, but {SWEEPS[sweep or 'falling']}"
    if verdict == "empirical":
        said = {"flat": "; the sweep is flat"}.get(sweep or "", "")
        if sweep in ("falling", "disputed"):
            said = f"; not converged: {SWEEPS[sweep]}"
        return f"{stand}; {counts.pass_at} are enough for {limit:g}, and the attacks ran to their end{said}"
    if stopped is not None and needed is None:
        return f"{stand}; {stopped}"
    if standing >= (counts.pass_at or 0):
        return f"{stand}, but {SWEEPS['undecided']}"
    bracket = f"the share is {percent(low)} to {percent(high)}, {sure}"
    return f"{stand}: {bracket}{_needed(verdict, needed, of)}"


def reason_of_pairs(
    verdict: Grade,
    pairs: PairsRecord,
    bounds: tuple[float, float],
    confidence: float | None,
    limit: float,
    *,
    sweep: str | None,
    stopped: str | None,
    needed: int | None,
    of: int,
) -> str:
    """For a requirement on the drop below a baseline; ``sweep``: the verdict on it where it is what decides."""
    what = f"{pairs.lost} images that stood are broken and {pairs.won} others stand now"
    sure = "all images were seen" if confidence is None else f"at {100 * confidence:g}% confidence"
    low, high = bounds
    if sweep is not None:
        return f"{what}: the drop is at most {percent(high)}, {sure}, but {SWEEPS[sweep]}"
    if verdict == "failed":
        return f"{what}: the drop is more than {percent(low)}, {sure} (allowed {percent(limit)})"
    if verdict in ("proven", "empirical"):
        how = "certificates alone show it" if verdict == "proven" else "the attacks ran to their end"
        return f"{what}: the drop is at most {percent(high)}, {sure}; {how}"
    if stopped is not None and needed is None:
        return f"{what}; {stopped}"
    return f"{what}: the drop is {percent(low)} to {percent(high)}, {sure}{_needed(verdict, needed, of)}"


def _needed(verdict: Grade, needed: int | None, of: int) -> str:
    if verdict != "inconclusive":
        return ""
    if needed is None or needed >= of:
        return f"; all {of} images would decide (leave out n)"
    return f"; about {needed} images would decide (n = {needed})"
