"""A network of any form behind the one that everything here calls: float32 images in, one tensor of logits out.

The one rule of types: images are given in the type of the network's own weights where it does not run in float32, and
what it answers becomes float32. (Images in float64 ask for an exact evaluation: an answer in float64 stays one.) A
network that writes to its input gets a copy of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robcert.errors import EvaluationError, RobcertError, network_fault
from robcert.network.fold import copy_module
from robcert.network.graph_files import ExportedNetwork

_LOGITS = ("logits", "out", "output", "outputs", "pred", "prediction", "predictions")
"""What the logits are called among several tensors, the likeliest name first."""

Key = str | int


class Adapted(nn.Module):
    """A network of another form.

    Args:
        network: it.
        dtype: in which it is given its images; None: as they are.
        copies: whether it is given a copy of them.
        key: where the logits are in its answer; None: they are the answer.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype | None, copies: bool, key: Key | None) -> None:
        super().__init__()
        self.network = network
        self.dtype, self.copies, self.key = dtype, copies, key
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes)."""
        given = x if self.dtype is None else x.to(self.dtype)
        answer = self.network(given.clone() if self.copies and given is x else given)
        logits: Tensor = answer if self.key is None else _part(answer, self.key)
        return logits if logits.dtype in (x.dtype, torch.float32) and logits.dtype.itemsize >= 4 else logits.float()


class WithoutGradient(nn.Module):
    """A network that has no gradient, as one that says so: its answers never ask for one.

    Args:
        network: it.
        reason: why it has none.
    """

    def __init__(self, network: nn.Module, reason: str) -> None:
        super().__init__()
        self.network = network
        self.reason = reason
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes)."""
        with torch.no_grad():
            return self.network(x.detach())


def check_gradient(module: nn.Module, backwards: int = 1) -> None:
    """Refuse a network that has no gradient, where ``backwards`` passes are asked of it.

    Raises:
        EvaluationError: it has none; the message says why, and what works without.
    """
    reason = next((part.reason for part in module.modules() if isinstance(part, WithoutGradient)), "")
    if reason and backwards:
        raise without_gradient("the network", reason)


def without_gradient(name: str, reason: str, plan: str = "square:1k,noise:100") -> EvaluationError:
    """Return the refusal of what needs a gradient."""
    return EvaluationError(
        f"{name} has no gradient: {reason}",
        f"Attacks that ask for answers alone work: --plan {plan}. So do certificates by smoothing: robcert certify "
        "--method smoothing.",
    )


def adapted(
    module: nn.Module, shape: tuple[int, ...], box: tuple[float, float], num_classes: int | None, fresh: bool
) -> nn.Module:
    """Return the network in the form that everything here calls; the network itself where it has it.

    Args:
        module: in eval mode, on the CPU.
        shape: of one image.
        box: the smallest and the largest value of an entry of its input.
        num_classes: the number of logits, where that is known.
        fresh: whether its input is made for it (a normalisation stands before it), so that it may write to it.

    Raises:
        EvaluationError: it does not run on images of that shape, or its answer has no logits.
    """
    tried: list[tuple[nn.Module, torch.dtype | None]] = [(module, None)]
    kinds = (t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point())
    if (own := next((kind for kind in kinds if kind != torch.float32), None)) is not None:
        tried = [(module, None), (module, own)]
        if not isinstance(module, ExportedNetwork | torch.jit.ScriptModule):
            tried = [(copy_module(module).float(), None), (module, own), (module, None)]
    failed: EvaluationError | None = None
    for network, dtype in tried:
        try:
            changes, key, answers = _form(network, shape, box, num_classes, dtype)
        except EvaluationError as error:
            failed = error
            continue
        copies = changes and dtype is None and not fresh
        plain = dtype is None and key is None and answers == torch.float32 and not copies
        return network if plain else Adapted(network, dtype, copies, key)
    assert failed is not None
    raise failed


@torch.no_grad()
def _form(
    module: nn.Module,
    shape: tuple[int, ...],
    box: tuple[float, float],
    num_classes: int | None,
    dtype: torch.dtype | None,
) -> tuple[bool, Key | None, torch.dtype]:
    """Call a network on two random images of the box.

    Returns:
        Whether it writes to its input; where the logits are in its answer, None where they are the answer; their type.

    Raises:
        EvaluationError: it does not run, or its answer has no logits.
    """
    low, high = box
    kept = low + (high - low) * torch.rand(2, *shape, generator=torch.Generator().manual_seed(5))
    kept = kept if dtype is None else kept.to(dtype)
    x = kept.clone()
    version = x._version
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        answer = answer_of(module, x, shape)
    changed = x._version != version or not torch.equal(x, kept)
    key = logits_key(answer, 2, num_classes)
    return changed, key, (answer if key is None else _part(answer, key)).dtype


def answer_of(module: Callable[[Tensor], object], x: Tensor, shape: tuple[int, ...]) -> Any:
    """Return the answer of a network to images (n, *shape) of the box.

    Raises:
        EvaluationError: the network raised; the message says what it was given.
    """
    try:
        return module(x)
    except RobcertError:
        raise
    except Exception as error:
        size = "x".join(map(str, shape))
        raise EvaluationError(
            f"the network does not run on {len(x)} image(s) of shape {size}: {network_fault(error).found}",
            f"robcert gave it a tensor of shape {'x'.join(map(str, x.shape))} with values from {float(x.min()):.3g} to "
            f"{float(x.max()):.3g}. If images have another shape, say so with --input-shape (channels first); an "
            "exported graph needs a dynamic batch dimension.",
        ) from error


def logits_key(answer: object, n: int, num_classes: int | None = None) -> Key | None:
    """Return the key of the logits in the answer to n images; None where they are the answer.

    Of several tensors (n, classes) it is the one that is called so, or the first one of a tuple, or the only one with
    the number of classes.

    Raises:
        EvaluationError: no tensor can be it, or several.
    """
    if isinstance(answer, Tensor):
        return None
    parts = dict(_parts(answer))
    able = {
        key: part.shape[1]
        for key, part in parts.items()
        if isinstance(part, Tensor) and part.is_floating_point() and part.dim() == 2 and len(part) == n
    }
    able = {key: classes for key, classes in able.items() if classes >= 2}
    if len(able) > 1 and num_classes is not None:
        able = {key: classes for key, classes in able.items() if classes == num_classes} or able
    named = [name for name in _LOGITS if name in able]
    if len(able) == 1 or named:
        return named[0] if named else next(iter(able))
    found = ", ".join(f"{key!r} {_said(part)}" for key, part in list(parts.items())[:6]) or "nothing that is known here"
    if able and 0 in able and len(set(able.values())) == 1:
        return 0  # logits, and those of auxiliary heads
    raise EvaluationError(
        f"the network answers with a {type(answer).__name__} ({found}), and "
        + ("several of them could be" if able else "none of them is")
        + " logits (n, classes)",
        "Say --classes, or wrap it so that its forward returns the logits only."
        if able
        else "Wrap it so that its forward returns the logits only.",
    )


def _parts(answer: object) -> Iterator[tuple[Key, object]]:
    """The parts of an answer with their keys: of a mapping, a dataclass, a (named) tuple or a list."""
    if isinstance(answer, dict):
        yield from ((key, part) for key, part in answer.items() if isinstance(key, str | int))
    elif is_dataclass(answer):
        yield from ((field.name, getattr(answer, field.name)) for field in fields(answer))
    elif isinstance(answer, tuple | list):
        names = getattr(answer, "_fields", range(len(answer)))
        yield from zip(names, answer, strict=True)


def _part(answer: Any, key: Key) -> Any:
    if isinstance(answer, dict) or isinstance(key, int):
        return answer[key]
    return getattr(answer, key)


def _said(part: object) -> str:
    return "x".join(map(str, part.shape)) if isinstance(part, Tensor) else type(part).__name__
