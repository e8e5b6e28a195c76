"""A VNN-LIB file as regions: boxes of inputs with constraints on outputs, in disjunctive normal form."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from robcert.errors import EvaluationError, UsageError
from robcert.vnnlib import Constraint, Property, Region

MOST_BYTES = 2**26
MOST_REGIONS = 100_000
_DEEPEST = 64
_VARIABLE = re.compile(r"([XY])_(\d{1,8})")
_TOKEN = re.compile(r";[^\n]*|[()]|[^\s();]+")

Term = tuple[dict[str, float], float]


@dataclass(frozen=True)
class _Atom:
    """terms <= 0, or < 0: a linear expression of variables, and a constant."""

    terms: tuple[tuple[str, float], ...]
    constant: float
    strict: bool


def read_vnnlib(path: Path) -> Property:
    """Return the property in a file.

    Raises:
        UsageError: the file cannot be read.
        EvaluationError: it is no VNN-LIB, an input has no bounds, or it asks for something else than boxes of inputs
            and linear constraints on outputs.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EvaluationError(f"{path} has more than {MOST_BYTES:,} bytes, expected a property of a network")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise EvaluationError(f"{path} is no text, expected VNN-LIB") from None
    return _Reader(str(path)).read(text)


class _Reader:
    def __init__(self, where: str) -> None:
        self.where = where
        self.declared: dict[str, int] = {"X": 0, "Y": 0}

    def fail(self, why: str) -> NoReturn:
        raise EvaluationError(f"{self.where}: {why}", "Expected VNN-LIB 1.0: declare-const X_i / Y_j, assert, <=, >=.")

    def read(self, text: str) -> Property:
        clauses: list[list[list[_Atom]]] = []
        for form in self._forms(text):
            match form:
                case ["declare-const", str(name), "Real"]:
                    found = _VARIABLE.fullmatch(name)
                    if found is None:
                        self.fail(f"the variable {name!r} is neither X_i nor Y_j")
                    self.declared[found[1]] = max(self.declared[found[1]], int(found[2]) + 1)
                case ["assert", formula]:
                    clauses.append(self._cases(formula))
                case ["check-sat"] | ["set-logic", _] | ["set-info", *_] | ["exit"]:
                    pass
                case _:
                    self.fail(f"what does {_text(form)} mean here?")
        if not self.declared["X"] or not self.declared["Y"]:
            self.fail("it declares no inputs X_i or no outputs Y_j")
        if math.prod(len(clause) for clause in clauses) > MOST_REGIONS:
            self.fail(f"it has more than {MOST_REGIONS:,} cases")
        regions = [self._region(list(itertools.chain(*parts))) for parts in itertools.product(*clauses)]
        kept = tuple(region for region in regions if region is not None)
        return Property(kept, self.declared["X"], self.declared["Y"])

    def _forms(self, text: str) -> Iterator[Any]:
        stack: list[list[Any]] = [[]]
        for token in _TOKEN.findall(text):
            if token.startswith(";"):
                continue
            if token == "(":
                if len(stack) > _DEEPEST:
                    self.fail(f"brackets are nested more than {_DEEPEST} deep")
                stack.append([])
            elif token == ")":
                if len(stack) == 1:
                    self.fail("a bracket is closed that was never opened")
                done = stack.pop()
                stack[-1].append(done)
            else:
                stack[-1].append(token)
            if len(stack) == 1 and stack[0]:
                yield stack[0].pop()
        if len(stack) > 1:
            self.fail("a bracket is never closed: the file is truncated")

    def _cases(self, formula: Any) -> list[list[_Atom]]:
        """Return a formula as alternatives, each a list of atoms that hold together."""
        match formula:
            case ["or", *parts]:
                found = [case for part in parts for case in self._cases(part)]
            case ["and", *parts]:
                alternatives = [self._cases(part) for part in parts]
                if math.prod(len(a) for a in alternatives) > MOST_REGIONS:
                    self.fail(f"it has more than {MOST_REGIONS:,} cases")
                found = [list(itertools.chain(*chosen)) for chosen in itertools.product(*alternatives)]
            case ["<=" | "<" | ">=" | ">" as sign, left, right]:
                a, b = (right, left) if ">" in sign else (left, right)
                found = [[self._atom(a, b, strict=len(sign) == 1)]]
            case ["=", left, right]:
                found = [[self._atom(left, right, strict=False), self._atom(right, left, strict=False)]]
            case _:
                self.fail(f"{_text(formula)} is no constraint")
        if len(found) > MOST_REGIONS:
            self.fail(f"it has more than {MOST_REGIONS:,} cases")
        return found

    def _atom(self, left: Any, right: Any, *, strict: bool) -> _Atom:
        (a, c), (b, d) = self._linear(left), self._linear(right)
        terms = {name: a.get(name, 0.0) - b.get(name, 0.0) for name in {**a, **b}}
        return _Atom(tuple((n, v) for n, v in terms.items() if v), c - d, strict)

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
                    self.fail(f"{_text(form)} multiplies two variables")
                return _times((b, d), c) if not a else _times((a, c), d)
            case _:
                self.fail(f"{_text(form)} is no linear expression")

    def _leaf(self, token: str) -> Term:
        found = _VARIABLE.fullmatch(token)
        if found is not None:
            if int(found[2]) >= self.declared[found[1]]:
                self.fail(f"{token} is not declared")
            return {token: 1.0}, 0.0
        try:
            number = float(token)
        except ValueError:
            self.fail(f"{token!r} is neither a variable nor a number")
        if not math.isfinite(number):
            self.fail(f"{token!r} is no finite number")
        return {}, number

    def _region(self, atoms: list[_Atom]) -> Region | None:
        """Return the box and the constraints of one case; None where the box is empty."""
        low, high = [-math.inf] * self.declared["X"], [math.inf] * self.declared["X"]
        constraints: list[Constraint] = []
        for atom in atoms:
            inputs = [(n, v) for n, v in atom.terms if n[0] == "X"]
            if not inputs:
                terms = tuple(sorted((int(n[2:]), v) for n, v in atom.terms))
                constraints.append(Constraint(terms, -atom.constant, atom.strict))
                continue
            if len(atom.terms) != 1:
                self.fail("a constraint joins several inputs, or inputs and outputs; only boxes of inputs are read")
            name, factor = inputs[0]
            index, value = int(name[2:]), -atom.constant / factor
            if factor > 0:
                high[index] = min(high[index], value)
            else:
                low[index] = max(low[index], value)
        for index, (a, b) in enumerate(zip(low, high, strict=True)):
            if not (math.isfinite(a) and math.isfinite(b)):
                self.fail(f"X_{index} has no lower or no upper bound")
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


def _text(form: Any) -> str:
    text = form if isinstance(form, str) else "(" + " ".join(_text(part) for part in form[:4]) + ")"
    return text[:60]
