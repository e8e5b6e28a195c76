"""What every analysis claims about a network of an operator sample, against what a search in float64 finds.

A cell is one network and one analysis. It is

- held: something finite is claimed, and nothing that is found contradicts it,
- infinite: a finite constant does not exist, or none is known, and the analysis says so,
- refused: an error of robcert that names what is not understood,
- wrong: a claim that is broken, or made where the answer to an image depends on the other ones,
- raw: any other exception.

Slack: claims hold in real arithmetic and the search computes in float64, where operators of these sizes are exact to
about 1e-14; a slope is taken over a distance of at least `search.CLOSEST`, so a relative 1e-6 and `NOISE` for what
cancels in the difference of two answers are a hundred times what rounding explains, and far below any fault.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from robcert.bounds.linear.backward import lower_bound
from robcert.bounds.linear.bounds import Mode, relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.bounds.lipschitz.network_bound import NetworkBound, graph_bound
from robcert.bounds.rounding.logits import logit_rounding
from robcert.errors import RobcertError
from robcert.network import from_module
from robcert.types import BOUND_NORMS, LoadedModel
from tests.soundness import search
from tests.soundness.sample_networks import Pair, Sampled, sampled

DOMAINS = (*BOUND_NORMS, "ibp", "crown", "rounding")
RELATIVE = 1e-6
NOISE = 1e-11
"""Of the largest answer or entry."""
BOXES = ((0.0, 1.0), (-1.5, 2.0))
RADII = (0.02, 0.3, 4.0)
"""Of a ball in l-infinity; the last one is the whole box."""


@dataclass(frozen=True)
class Cell:
    """What came of one analysis of one network.

    Attributes:
        key: of the pair.
        layout: of the images, or "no network".
        domain: one of `DOMAINS`.
        outcome: held, infinite, refused, wrong or raw.
        said: of a refusal or an error; of a wrong claim, what was found beside it.
    """

    key: str
    layout: str
    domain: str
    outcome: str
    said: str = ""

    def record(self) -> dict[str, str]:
        """As plain data."""
        return asdict(self)


def judged(pair: Pair) -> list[Cell]:
    """The cells of one pair; a single one where the operator can be made no network of its kind."""
    torch.manual_seed(pair.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sampled(pair)
        if found is None:
            return [Cell(pair.key, "no network", "", "no network", "no layout of the images fits this sample")]
        model = _loaded(found, pair.seed)
        if isinstance(model, str):
            return [Cell(pair.key, "no network", "", "no network", model)]
        checks: dict[tuple[str, ...], Callable[[], list[tuple[str, str]]]] = {
            BOUND_NORMS: lambda: _slopes(found, model, pair.seed),
            ("ibp",): lambda: [_relaxed(found, model, "ibp", pair.seed)],
            ("crown",): lambda: [_relaxed(found, model, "crown", pair.seed)],
            ("rounding",): lambda: [_rounding(found, model, pair.seed)],
        }
        layout = found.layout + (", mixed" if found.mixes else "")
        return [
            Cell(pair.key, layout, domain, *outcome)
            for domains, check in checks.items()
            for domain, outcome in zip(domains, _outcomes(check, len(domains)), strict=True)
        ]


def _outcomes(check: Callable[[], list[tuple[str, str]]], count: int) -> list[tuple[str, str]]:
    try:
        return check()
    except RobcertError as error:
        infinite = error.found.startswith("there is no finite Lipschitz bound")
        return [("infinite" if infinite else "refused", error.found)] * count
    except Exception as error:  # what a user would see as a traceback
        return [("raw", f"{type(error).__name__}: {error}")] * count


def _loaded(found: Sampled, seed: int) -> LoadedModel | str:
    """The network as robcert loads it, in a box where its answers are finite, else why not."""
    why = ""
    for box in (BOXES[seed % 2], BOXES[0], (1.5, 2.5)):
        try:
            return from_module(found.network, found.network.shape, name="sample", box=box)
        except RobcertError as error:
            why = error.found
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return why


def _slopes(found: Sampled, model: LoadedModel, seed: int) -> list[tuple[str, str]]:
    """Of the three norms: is any slope above what is claimed, of all logits or of one?"""
    bounds = graph_bound(model).bounds
    outcomes: dict[str, tuple[str, str]] = {}
    for norm in BOUND_NORMS:
        claimed = bounds[norm]
        if not math.isfinite(claimed.whole):
            outcomes[norm] = "infinite", claimed.reasons[0] if claimed.reasons else "no reason"
        elif found.mixes:
            outcomes[norm] = "wrong", f"{claimed.whole} is claimed, and images see each other"
        else:
            outcomes[norm] = "held", ""
    if "held" not in dict(outcomes.values()):
        return [outcomes[norm] for norm in BOUND_NORMS]
    for pairs in search.steep(found.exact, _starts(found, model, seed), seed):
        for norm in BOUND_NORMS:
            if outcomes[norm][0] == "held":
                outcomes[norm] = _held(pairs, bounds[norm], norm)
    return [outcomes[norm] for norm in BOUND_NORMS]


def _held(pairs: search.Pairs, claimed: NetworkBound, norm: str) -> tuple[str, str]:
    apart = pairs.apart[norm]
    slack = NOISE * pairs.size / apart
    whole = pairs.slope(norm)
    excess = whole - claimed.whole * (1 + RELATIVE) - slack
    each = (pairs.moved.abs() / apart[:, None] - claimed.logits * (1 + RELATIVE) - slack[:, None]).amax(1)
    each = torch.where(apart >= search.CLOSEST, each, -1.0)
    worst = torch.maximum(excess, each).nan_to_num(-1.0, -1.0)
    k = int(worst.argmax())
    if float(worst[k]) <= 0:
        return "held", ""
    return "wrong", f"slope {float(whole[k]):.6g} over {float(apart[k]):.3g}, claimed {claimed.whole:.6g}"


def _starts(found: Sampled, model: LoadedModel, seed: int) -> Tensor:
    """Points to search from: the sample itself, the box, other scales, ties and zeros."""
    shape = found.network.shape
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(8, *shape, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.01, 0.1, 0.3, 1, 1, 3, 10, 100.0], dtype=torch.float64).view(8, *[1] * len(shape))
    low, high = model.box
    inside = low + (high - low) * torch.rand(4, *shape, generator=generator, dtype=torch.float64)
    flat = torch.tensor([0.0, 1.0, -1.0, 0.5], dtype=torch.float64).view(4, *[1] * len(shape)).expand(4, *shape)
    return torch.cat([_own(found), normal * scale, inside, flat, (normal * scale)[4:7].round()])


def _own(found: Sampled) -> Tensor:
    """The value that the argument has in the sample, as images."""
    return found.network.sample.double().reshape(-1, *found.network.shape)[:4]


def _relaxed(found: Sampled, model: LoadedModel, mode: Mode, seed: int) -> tuple[str, str]:
    compiled = program(model)
    if found.mixes:
        return "wrong", "bounds of a network that mixes images"
    generator = torch.Generator().manual_seed(seed)
    low, high = model.box
    x = low + (high - low) * torch.rand(2, *model.input_shape, generator=generator, dtype=torch.float64)
    eps = torch.full((2,), RADII[seed % 3], dtype=torch.float64)
    around = region(x, eps, "linf", model.box)
    rows = search.rows(model.num_classes, generator)
    with torch.no_grad():
        relaxed = relax(compiled, around, mode)
        spec = Rows(rows.expand(2, *rows.shape).contiguous())
        bound = lower_bound(relaxed, compiled.logits, spec, to_inputs=mode != "ibp")
    if not bool(torch.isfinite(bound).all()):
        return "infinite", "no finite linear bound"
    value, size = search.smallest(found.exact, around.lower, around.upper, rows, generator)
    below = (bound - value - RELATIVE * 1e-3 * bound.abs() - NOISE * size).nan_to_num(-1.0)
    if below.numel() and float(below.max()) > 0:
        k = int(below.argmax())
        return "wrong", f"value {float(value.flatten()[k]):.9g} below the bound {float(bound.flatten()[k]):.9g}"
    return "held", ""


def _rounding(found: Sampled, model: LoadedModel, seed: int) -> tuple[str, str]:
    bound = logit_rounding(model)
    if found.mixes:
        return "wrong", "a bound of rounding for a network that mixes images"
    if not math.isfinite(bound.error):
        return "infinite", "no finite bound of the rounding error"
    for x in _in_box(found, model, seed):
        with torch.no_grad():
            executed, exact = model.module(x.clone()).double(), found.exact(x.double())
        size = exact.abs().nan_to_num().amax() if exact.numel() else torch.tensor(0.0)
        off = (executed - exact).abs()
        off[executed == exact] = 0.0  # both infinite
        worst = float(off.nan_to_num(math.inf).max()) if off.numel() and not bool(exact.isnan().all()) else 0.0
        if worst > bound.error + bound.error64 + 2.0**-50 * float(size):
            return "wrong", f"error {worst:.6g}, claimed {bound.error:.6g}"
    return "held", ""


def _in_box(found: Sampled, model: LoadedModel, seed: int) -> Iterator[Tensor]:
    """Float32 images in the box: random, dark, flat, corners, and one alone."""
    low, high = model.box
    generator = torch.Generator().manual_seed(seed)
    x = low + (high - low) * torch.rand(24, *model.input_shape, generator=generator)
    yield x
    yield (x * 1e-3).clamp(low, high)
    yield x[:, :1].expand_as(x).clone() if x.dim() > 1 else x
    yield x.flatten(1).amax(1).view(-1, *[1] * (x.dim() - 1)).expand_as(x).clone() if x.numel() else x
    yield torch.where(torch.rand(x.shape, generator=generator) < 0.5, low, high)
    yield _own(found).float().clamp(low, high)
    yield x[:1]
