"""Every operator of any domain has in each domain a rule, or a reason why not; the page of the docs lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.linear.domain import LinearDomain
from robcert.bounds.linear.rules.refusals import PRODUCTS
from robcert.bounds.lipschitz.domain import LipschitzDomain
from robcert.bounds.operators import DOMAINS, operators, page
from robcert.bounds.rounding.domain import RoundingDomain
from robcert.bounds.rounding.entrywise import entrywise_rules
from robcert.graph.batch import batch_rules
from robcert.graph.interpreter import Domain, Interpreter, NoRule
from robcert.graph.read import read_graph


def test_every_domain_says_something_of_every_operator() -> None:
    silent = {(name, column) for name, said in operators().items() for column, one in said.items() if not one}
    assert not silent


@pytest.mark.parametrize("domain", [LinearDomain, RoundingDomain])
def test_what_has_a_rule_is_not_refused(domain: type[Domain[Any, Any]]) -> None:
    assert not set(domain.rules.names()) & set(domain.refusals)


def test_every_linear_relaxation_has_a_rounding_rule_or_a_reason() -> None:
    named = set(entrywise_rules.names())
    assert set(LinearDomain.rules.names()) - named <= set(RoundingDomain.refusals)
    assert named & set(RoundingDomain.refusals) <= set(PRODUCTS)


def test_what_has_no_finite_constant_has_a_rule_that_says_so() -> None:
    assert set(LipschitzDomain.refusals) <= set(LipschitzDomain.rules.names())


def test_of_every_operator_it_is_known_where_the_images_lie() -> None:
    assert set(operators()) <= set(batch_rules.names())


def test_the_page_is_what_the_command_prints() -> None:
    written = Path(__file__).parents[2] / "docs" / "operators.md"
    assert written.read_text() == page(), "python -m robcert.bounds.operators > docs/operators.md"


class Softmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log_softmax(1) * 2


def test_a_refusal_names_operator_layer_and_reason() -> None:
    graph = read_graph(nn.Sequential(nn.Linear(3, 2), Softmax()).eval(), (3,), "net")
    with pytest.raises(NoRule, match=r"relaxation for the op log_softmax .* of layer 1: all entries along an axis"):
        Interpreter(LinearDomain(graph, (3,))).run()


def test_the_walk_stops_where_it_is_told_to() -> None:
    graph = read_graph(nn.Sequential(nn.Linear(3, 2), Softmax()).eval(), (3,), "net")
    linear = next(node for node in graph.nodes if "linear" in str(node.target))
    domain = LinearDomain(graph, (3,))
    assert Interpreter(domain).run(until=linear).shape == (2,)
    assert [step.node for step in domain.steps] == [linear.name]


def test_constants_are_computed_once_for_all_domains() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale.exp()

    graph = read_graph(Scaled().eval(), (3,), "net")
    exp = next(node for node in graph.nodes if "exp" in str(node.target))
    assert exp.name not in graph.dependent
    domains = LipschitzDomain(graph, 3, 0.01), LinearDomain(graph, (3,))
    for domain in domains:
        Interpreter[Any](domain).run()
    assert domains[0].values[exp.name] is domains[1].values[exp.name]


def test_all_domains_are_listed() -> None:
    assert {LipschitzDomain, LinearDomain, RoundingDomain} == set(DOMAINS.values())
