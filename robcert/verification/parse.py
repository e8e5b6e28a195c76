"""A VNN-LIB file as regions: boxes of inputs with constraints on outputs, in disjunctive normal form."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robcert.errors import UsageError
from robcert.verification import Constraint, Property, Region
from robcert.verification.forms import Text, shortened

MOST_BYTES = 2**26
MOST_REGIONS = 100_000
_VARIABLE = re.compile(r"([XY])_(\d{1,8})")

Term = tuple[dict[str, float], float]


@dataclass(frozen=True)
class _Atom:
    """terms <= 0, or < 0: a linear expression of variables, and a constant."""

    terms: tuple[tuple[str, float], ...]
    constant: float
    strict: bool
    form: Any


def read_vnnlib(path: Path) -> Property:
    """Return the property in a file.

    Raises:
        UsageError: the file cannot be read, is no VNN-LIB, gives an input no bounds, or asks for something else than
            boxes of inputs and linear constraints on outputs; the line is named.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} has more than {MOST_BYTES:,} bytes, expected a property of a network")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text, expected VNN-LIB") from None
    return _Reader(Text(str(path), text)).read()


class _Reader:
    def __init__(self, text: Text) -> None:
        self.text, self.fail = text, text.fail
        self.declared: dict[str, dict[int, Any]] = {"X": {}, "Y": {}}

    def read(self) -> Property:
        clauses: list[list[list[_Atom]]] = []
        for form in self.text.forms():
            match form:
                case ["declare-const", str(name), "Real"]:
                    self._declare(name)
                case ["assert", formula]:
                    clauses.append(self._cases(formula))
                    if math.prod(len(clause) for clause in clauses) > MOST_REGIONS:
                        self.fail(f"it has more than {MOST_REGIONS:,} cases", form)
                case ["check-sat"] | ["set-logic", _] | ["set-info", *_] | ["exit"]:
                    pass
                case _:
                    self.fail(f"what does {shortened(form)} mean here?", form)
        for kind, what in (("X", "inputs X_i"), ("Y", "outputs Y_j")):
            numbers = self.declared[kind]
            if not numbers:
                self.fail(f"it declares no {what}")
            for missing in itertools.islice((i for i in range(len(numbers)) if i not in numbers), 1):
                self.fail(f"{kind}_{max(numbers)} is declared, and {kind}_{missing} is not", numbers[max(numbers)])
        regions = [self._region(list(itertools.chain(*parts))) for parts in itertools.product(*clauses)]
        kept = tuple(region for region in regions if region is not None)
        return Property(kept, len(self.declared["X"]), len(self.declared["Y"]))

    def _declare(self, name: str) -> None:
        found = _VARIABLE.fullmatch(name)
        if found is None:
            self.fail(f"the variable {name!r} is neither X_i nor Y_j", name)
        self.declared[found[1]][int(found[2])] = name

    def _cases(self, formula: Any) -> list[list[_Atom]]:
        """Return a formula as alternatives, each a list of atoms that hold together."""
        match formula:
            case ["or", *parts]:
                found = [case for part in parts for case in self._cases(part)]
            case ["and", *parts]:
                alternatives = [self._cases(part) for part in parts]
                if math.prod(len(a) for a in alternatives) > MOST_REGIONS:
                    self.fail(f"it has more than {MOST_REGIONS:,} cases", formula)
                found = [list(itertools.chain(*chosen)) for chosen in itertools.product(*alternatives)]
            case ["<=" | "<" | ">=" | ">" as sign, left, right]:
                a, b = (right, left) if ">" in sign else (left, right)
                found = [[self._atom(a, b, formula, strict=len(sign) == 1)]]
            case ["=", left, right]:
                found = [[self._atom(*pair, formula, strict=False) for pair in ((left, right), (right, left))]]
            case _:
                self.fail(f"{shortened(formula)} is no constraint", formula)
        if len(found) > MOST_REGIONS:
            self.fail(f"it has more than {MOST_REGIONS:,} cases", formula)
        return found

    def _atom(self, left: Any, right: Any, form: Any, *, strict: bool) -> _Atom:
        (a, c), (b, d) = self._linear(left), self._linear(right)
        terms = {name: a.get(name, 0.0) - b.get(name, 0.0) for name in {**a, **b}}
        if not all(map(math.isfinite, (*terms.values(), c - d))):
            self.fail(f"the numbers in {shortened(form)} are too large", form)
        return _Atom(tuple((n, v) for n, v in terms.items() if v), c - d, strict, form)

    def _linear(self, form: Any) -> Term:
        match form:
            case str(token):
                return self._leaf(token)
            case ["+", *parts]:
                return _total([self._linear(part) for part in parts])
            case ["-", part]:
                return _times(self._linear(part), -1.0)
            case ["-", first, *parts]:
                return _total([self._linear(first), *(_times(self._linear(part), -1.0) for part in parts)])
            case ["*", left, right]:
                (a, c), (b, d) = self._linear(left), self._linear(right)
                if a and b:
                    self.fail(f"{shortened(form)} multiplies two variables", form)
                return _times((b, d), c) if not a else _times((a, c), d)
            case _:
                self.fail(f"{shortened(form)} is no linear expression", form)

    def _leaf(self, token: str) -> Term:
        found = _VARIABLE.fullmatch(token)
        if found is not None:
            if int(found[2]) not in self.declared[found[1]]:
                self.fail(f"{token} is not declared", token)
            return {token: 1.0}, 0.0
        try:
            number = float(token)
        except ValueError:
            self.fail(f"{token!r} is neither a variable nor a number", token)
        if not math.isfinite(number):
            self.fail(f"{token!r} is no finite number", token)
        return {}, number

    def _region(self, atoms: list[_Atom]) -> Region | None:
        """Return the box and the constraints of one case; None where the box is empty."""
        count = len(self.declared["X"])
        low, high = [-math.inf] * count, [math.inf] * count
        constraints: list[Constraint] = []
        for atom in atoms:
            inputs = [(n, v) for n, v in atom.terms if n[0] == "X"]
            if not inputs:
                terms = tuple(sorted((int(n[2:]), v) for n, v in atom.terms))
                constraints.append(Constraint(terms, -atom.constant, atom.strict))
                continue
            if len(atom.terms) != 1:
                self.fail(
                    "a constraint joins several inputs, or inputs and outputs; only boxes of inputs are read", atom.form
                )
            name, factor = inputs[0]
            index, value = int(name[2:]), -atom.constant / factor
            if factor > 0:
                high[index] = min(high[index], math.nextafter(value, -math.inf) if atom.strict else value)
            else:
                low[index] = max(low[index], math.nextafter(value, math.inf) if atom.strict else value)
        for index, (a, b) in enumerate(zip(low, high, strict=True)):
            if not (math.isfinite(a) and math.isfinite(b)):
                self.fail(f"X_{index} has no lower or no upper bound", self.declared["X"][index])
        if any(a > b for a, b in zip(low, high, strict=True)):
            return None
        return Region(tuple(low), tuple(high), tuple(constraints))


def _total(terms: list[Term]) -> Term:
    found: dict[str, float] = {}
    for coefficients, _ in terms:
        for name, value in coefficients.items():
            found[name] = found.get(name, 0.0) + value
    return found, math.fsum(constant for _, constant in terms)


def _times(term: Term, factor: float) -> Term:
    return {name: value * factor for name, value in term[0].items()}, term[1] * factor
