"""What came of all cells: the table operator x domain, rules that refuse everything, and what an older version held."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from robcert.types import BOUND_NORMS
from tests.soundness.operator_samples import Cell

OUTCOMES = ("held", "infinite", "refused", "wrong", "raw")
COLUMNS = {"slopes": BOUND_NORMS, "linear bounds": ("ibp", "crown"), "rounding": ("rounding",)}
"""Name of an analysis -> its domains: three norms, two ways of linear bounds."""


class Table:
    """Counts of outcomes by operator and analysis.

    Args:
        cells: of any pairs.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self.layouts: Counter[str] = Counter()
        column = {domain: name for name, domains in COLUMNS.items() for domain in domains}
        keys: set[str] = set()
        for cell in cells:
            operator = cell.key.split("|")[0]
            if cell.key not in keys:
                keys.add(cell.key)
                self.layouts[cell.layout] += 1
            if cell.domain:
                self.counts[operator][column[cell.domain]][cell.outcome] += 1
            else:
                self.counts[operator]  # noqa: B018 (it has a row)

    @property
    def total(self) -> dict[str, Counter[str]]:
        """By analysis."""
        return {name: sum((row[name] for row in self.counts.values()), Counter[str]()) for name in COLUMNS}

    @property
    def bad(self) -> int:
        """Claims that are wrong, and exceptions that are no refusal."""
        return sum(count["wrong"] + count["raw"] for count in self.total.values())

    def without_rule(self, registered: dict[str, set[str]]) -> list[str]:
        """Rules that refuse every sample of their operator, which counts as no rule.

        Args:
            registered: analysis -> the operators that it has a rule for.
        """
        found: list[str] = []
        for name, operators in registered.items():
            for operator in sorted(operators & self.counts.keys()):
                count = self.counts[operator][name]
                if count and not count["held"] + count["infinite"]:
                    found.append(f"{operator} ({name})")
        return found

    def text(self) -> str:
        """As plain text."""
        lines = [f"{'operator':<40}" + "".join(f"{name:>42}" for name in COLUMNS)]
        lines.append(" " * 40 + "".join(f"{' '.join(f'{o:>8}' for o in OUTCOMES[:5]):>42}" for _ in COLUMNS))
        rows = [*sorted(self.counts.items()), ("all", self.total)]
        for operator, row in rows:
            parts = (" ".join(f"{row[name][o]:>8}" for o in OUTCOMES) for name in COLUMNS)
            lines.append(f"{operator:<40}" + "".join(f"{p:>42}" for p in parts))
        return "\n".join([*lines, "networks: " + ", ".join(f"{n} {k}" for k, n in sorted(self.layouts.items()))])


def registered() -> dict[str, set[str]]:
    """Analysis -> the operators that it has a rule for."""
    from robcert.bounds.operators import DOMAINS

    return {name: set(domain.rules.names()) for name, domain in zip(COLUMNS, DOMAINS.values(), strict=True)}


def lost(before: Iterable[Cell], after: Iterable[Cell]) -> list[str]:
    """What was held before and is not now, grouped, each with what is said now."""
    now = {(cell.key, cell.domain): cell for cell in after}
    groups: Counter[tuple[str, str, str, str]] = Counter()
    for cell in before:
        found = now.get((cell.key, cell.domain))
        if cell.outcome == "held" and found is not None and found.outcome != "held":
            said = re.sub(r" in layer \S+?(?=[:\s])", "", found.said)
            groups[cell.key.split("|")[0], _column(cell.domain), found.outcome, said] += 1
    return [f"{key[0]} ({key[1]}), {count} now {key[2]}: {key[3]}" for key, count in sorted(groups.items())]


def _column(domain: str) -> str:
    return next(name for name, domains in COLUMNS.items() if domain in domains)


def page(after: list[Cell], before: list[Cell], total: int) -> str:
    """The table as a page of the documentation.

    Args:
        after: what came of the pairs.
        before: of an earlier version; only pairs that both were asked about are compared.
        total: the number of all pairs that there are.
    """
    table = Table(after)
    lines = ["# Operator samples", "", *_summary(table, total)]
    if before:
        both = {cell.key for cell in before} & {cell.key for cell in after}
        old, new = (Table(c for c in cells if c.key in both) for cells in (before, after))
        lines += ["", f"## Before and after ({len(both):,} pairs asked of both versions)", ""]
        lines += ["| analysis | version | " + " | ".join(OUTCOMES) + " |", "| --- | --- |" + " ---: |" * len(OUTCOMES)]
        for name in COLUMNS:
            for label, one in (("before", old), ("after", new)):
                lines.append(f"| {name} | {label} | " + " | ".join(f"{one.total[name][o]:,}" for o in OUTCOMES) + " |")
        lines += ["", "Held before and not now, with what is said now:", ""]
        lines += [f"- {line}" for line in lost(before, after)] or ["- nothing"]
    lines += [
        "",
        "## Every operator",
        "",
        "Held / infinite / refused"
        + (
            "; in brackets what the earlier version said of the pairs that both were asked about, where that differs"
            if before
            else ""
        ),
    ]
    lines += ["", "| operator | " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    both = {cell.key for cell in before} & {cell.key for cell in after}
    then, now = (Table(c for c in cells if c.key in both).counts for cells in (before, after))
    for operator, row in sorted(table.counts.items()):
        parts = (_cell(row[name], now[operator][name], then[operator][name]) for name in COLUMNS)
        lines.append(f"| `{operator}` | " + " | ".join(parts) + " |")
    return "\n".join([*lines, ""])


def _summary(table: Table, total: int) -> list[str]:
    none = table.layouts["no network"]
    lines = [
        "Written by `benchmarks/operator_samples.py`; what it compares is in [soundness](soundness.md), section 4.",
        "",
        f"{sum(table.layouts.values()):,} of {total:,} pairs of a sample and a tensor argument. {none:,} of them "
        "are no network in any layout of the images, or too large for a search.",
        "",
        "| layout of the images | networks |",
        "| --- | ---: |",
        *(f"| {name} | {count:,} |" for name, count in sorted(table.layouts.items()) if name != "no network"),
        "",
        "| analysis | " + " | ".join(OUTCOMES) + " |",
        "| --- |" + " ---: |" * len(OUTCOMES),
    ]
    for name, count in table.total.items():
        lines.append(f"| {name} | " + " | ".join(f"{count[o]:,}" for o in OUTCOMES) + " |")
    nothing = table.without_rule(registered())
    return [*lines, "", f"Rules that refuse every sample, which count as no rule: {', '.join(nothing) or 'none'}."]


def _cell(every: Counter[str], now: Counter[str], before: Counter[str]) -> str:
    if not every:
        return "-"
    return _said(every) if before == now else f"{_said(every)} (of those asked before: {_said(before)})"


def _said(count: Counter[str]) -> str:
    text = " / ".join(str(count[o]) for o in OUTCOMES[:3])
    bad = [f"{count[o]} {o}" for o in OUTCOMES[3:] if count[o]]
    return f"{text}, **{', '.join(bad)}**" if bad else text
