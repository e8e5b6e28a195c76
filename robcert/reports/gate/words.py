"""Sentences that several formats share."""

from __future__ import annotations

import shlex

from robcert.policy.record import GateRecord, RequirementRecord

_SHOWN = 10
"""Images of a picture."""


def asked(one: RequirementRecord) -> str:
    """Return the question: "accuracy under attack at least 0.8 (l2 eps 0.25)"."""
    where = " ".join([*([one.norm] if one.norm else []), *([f"eps {one.eps:g}"] if one.eps is not None else [])])
    return f"{one.title} {one.sign} {one.limit:g}{f' ({where})' if where else ''}"


def figure(one: RequirementRecord) -> str:
    """Return the answer: "0.843 [0.812, 0.871]", or both ends of the bracket where attacks were asked for."""
    if one.run is not None and one.counts is not None and one.pairs is None:
        counts = one.counts
        return f"{counts.certified} certified, {counts.certified + counts.open} standing of {counts.n}"
    if one.value is None:
        return "none"
    shown = f"{one.value:.4g}"
    if one.bounds is None or one.bounds[0] == one.bounds[1]:
        return shown
    return f"{shown} [{one.bounds[0]:.4g}, {one.bounds[1]:.4g}]"


def grade(one: RequirementRecord) -> str:
    """The verdict, with what qualifies it."""
    return f"{one.verdict}, not converged" if one.verdict == "empirical" and one.converged is False else one.verdict


def show(record: GateRecord, one: RequirementRecord) -> str:
    """Return the command that draws the images that a requirement fails by, the closest; "" where none is kept."""
    directory = None if one.run is None else record.runs[one.run].directory
    if one.passed or directory is None:
        return ""
    found = {witness.index: witness.distance for witness in one.witnesses if witness.distance}
    if one.pairs is not None:
        found = {index: found[index] for index in one.pairs.newly_broken if index in found}
    if not found:
        return ""
    closest = sorted(found, key=lambda index: (found[index], index))[:_SHOWN]
    return shlex.join(["robcert", "show", directory, "--index", ",".join(map(str, closest)), "--output", "broken.png"])


def images(record: GateRecord) -> str:
    """Return the images: "digits test, 300 of 1797 images (seed 0)"."""
    data = record.data
    if data.n >= record.of:
        return f"{data.name} {data.split}, all {data.n} images"
    return f"{data.name} {data.split}, {data.n} of {record.of} images (seed {data.seed})"


def spent(record: GateRecord) -> str:
    """Return the cost."""
    # A requirement without a run of its own may have attacked all the same: a detector.
    alone = [one for one in record.requirements if one.run is None]
    forwards = sum(run.forwards for run in record.runs) + sum(one.forwards for one in alone)
    backwards = sum(run.backwards for run in record.runs) + sum(one.backwards for one in alone)
    early = sum(1 for run in record.runs if run.stopped)
    said = f", {early} of {len(record.runs)} runs of attacks ended early" if early else ""
    settled = [run for run in record.runs if run.settled is not None]
    if settled:
        enough, all_of_it = sum(run.settled or 0 for run in settled), sum(run.forwards for run in settled)
        said += f"; of {all_of_it:,} forwards of whole plans, {enough:,} settled the verdicts"
    return (
        f"{forwards:,} forwards and {backwards:,} backwards (images), {record.seconds:.1f} s on {record.device}{said}"
    )
