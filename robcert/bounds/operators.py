"""Every operator and what each domain makes of it, as docs/operators.md lists them.

python -m robcert.bounds.operators > docs/operators.md
"""

from __future__ import annotations

import sys
from typing import Any

from robcert.bounds.linear.domain import LinearDomain
from robcert.bounds.lipschitz.domain import LipschitzDomain
from robcert.bounds.rounding.domain import RoundingDomain
from robcert.graph.interpreter import Domain

DOMAINS: dict[str, type[Domain[Any, Any]]] = {
    "Lipschitz constants": LipschitzDomain,
    "linear bounds, intervals": LinearDomain,
    "rounding": RoundingDomain,
}
"""What a column is called -> the domain."""

_HEAD = """# Operators

Written by `python -m robcert.bounds.operators`.

The ATen operators that some certificate understands. A network is exported once, and each of its operators is looked
up in the table of a domain: Lipschitz constants (`gap`, `robcert norms`), linear bounds and intervals (`ibp`,
`crown`, `alpha-crown`, `bab`), rounding errors (the claim about the executed float32 network; linear bounds have a
table of their own for it, with the same operators). "yes": the domain has a rule, which may still refuse a use of its
operator by name. Any other cell says why nothing is claimed: the Lipschitz constant is infinite, and `robcert norms`
says so; linear bounds refuse the network by name, unless torch can write the operator in terms of others that they
know; without a rounding rule only the radius in real arithmetic stands. An operator that is not listed is refused by
name in each domain. How to add a rule is in [Adding to it](extending.md).
"""


def operators() -> dict[str, dict[str, str]]:
    """Return for every operator of any domain what each domain says of it: "yes", why not, or "" where nothing is said.

    Returns:
        Name of an ATen operator -> name of a domain -> what is said.
    """
    named = {name for domain in DOMAINS.values() for name in (*domain.rules.names(), *domain.refusals)}
    return {name: {column: _said(domain, name) for column, domain in DOMAINS.items()} for name in sorted(named)}


def page() -> str:
    """Return docs/operators.md."""
    lines = [_HEAD, f"| operator | {' | '.join(DOMAINS)} |", "| --- |" + " --- |" * len(DOMAINS)]
    lines += [f"| `{name}` | {' | '.join(said.values())} |" for name, said in operators().items()]
    return "\n".join(lines) + "\n"


def _said(domain: type[Domain[Any, Any]], name: str) -> str:
    return domain.refusals.get(name) or ("yes" if name in domain.rules else "")


if __name__ == "__main__":
    sys.stdout.write(page())
