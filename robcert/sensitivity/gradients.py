r"""Norms of the gradients of a network at an image: every statistic by its name.

J (classes, d) is the Jacobian of the logits z, p their softmax, :math:`\ell` the cross-entropy of the label y, and j
the largest logit but that of y. Vector-Jacobian products give all of them:

.. math:: \nabla p_i = p_i (J_i - \sum_k p_k J_k), \quad \nabla\ell = \sum_k p_k J_k - J_y, \quad
          \nabla(z_y - z_j) = J_y - J_j.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from robcert.math.norms import l1_norm, l2_norm, linf_norm
from robcert.network.adapt import check_gradient
from robcert.threats.kind import norm_of
from robcert.types import BoundNorm

STATISTICS: dict[str, str] = {
    "spectral": "||J||_2",
    "frobenius": "||J||_F",
    "row": "||J||_2,inf",
    "probability": "||grad p||_2,inf",
    "loss-l1": "||grad loss||_1",
    "loss-l2": "||grad loss||_2",
    "loss-linf": "||grad loss||_inf",
    "margin": "||grad margin||_2",
}
"""What can be measured at one image, and how a table writes it. J is of the logits, p their softmax."""

WORDS: dict[str, str] = {
    "spectral": "spectral norm of the Jacobian",
    "frobenius": "Frobenius norm of the Jacobian",
    "row": "largest gradient norm of a logit",
    "probability": "largest gradient norm of a class probability",
    "loss-l1": "l1 norm of the gradient of the loss",
    "loss-l2": "l2 norm of the gradient of the loss",
    "loss-linf": "l-inf norm of the gradient of the loss",
    "margin": "l2 norm of the gradient of the margin",
}
"""The same in words, for plots and pages."""

GRAM = 64
"""The most classes for which the spectral norm is exact, from the Gram matrix of the rows."""
_BATCH = 128
_ENTRIES = 1 << 24
_ROWS = frozenset({"spectral", "frobenius", "row", "probability", "operator", "row-dual"})

Pull = Callable[[Tensor], Tensor]
"""u (n, classes) to J^T u (n, d)."""


def measure(
    module: nn.Module,
    x: Tensor,
    y: Tensor | None,
    wanted: Collection[str],
    norm: BoundNorm = "l2",
    most: int | None = None,
) -> dict[str, Tensor]:
    """Statistics of some images, in the precision of ``x`` and of the network.

    Args:
        module: the network, logits out, each image for itself.
        x: (n, *shape).
        y: (n,) int64; None: the network's own answers, which is all that a detector knows.
        wanted: names in `STATISTICS`, and for a threat in ``norm``: "operator", the norm of J from ``norm`` to
            ``norm``; "row-dual", the largest dual norm of a row; "margin-dual", that of the gradient of the margin;
            and what belongs to them: "loss", "gap" (the margin z_y - z_j), "label" (y) and "other" (j).
        norm: of the threat.
        most: images at once, at most; None: by the size of an image.

    Returns:
        One value an image, (n,), for every name; NaN or infinite where the gradients are.

    Raises:
        EvaluationError: the network has no gradient.
    """
    check_gradient(module)
    if not len(x):
        return {name: x.new_zeros(0) for name in wanted}
    with torch.no_grad():
        classes = module(x[:1]).shape[1]
    size = max(1, min(_BATCH, most or _BATCH, _ENTRIES // (classes * x[0].numel())))
    parts = [
        _batch(module, x[at : at + size], None if y is None else y[at : at + size], frozenset(wanted), norm)
        for at in range(0, len(x), size)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in wanted}


def _batch(
    module: nn.Module, x: Tensor, y: Tensor | None, wanted: frozenset[str], norm: BoundNorm
) -> dict[str, Tensor]:
    point = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = module(point)

    def pull(weights: Tensor) -> Tensor:
        return torch.autograd.grad(logits, point, weights, retain_graph=True)[0].flatten(1)

    values = logits.detach()
    label = values.argmax(dim=1) if y is None else y
    other = values.scatter(1, label.view(-1, 1), float("-inf")).argmax(dim=1)
    eye = torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
    found: dict[str, Tensor] = {
        "loss": nn.functional.cross_entropy(values, label, reduction="none"),
        "gap": (values.gather(1, label.view(-1, 1)) - values.gather(1, other.view(-1, 1))).squeeze(1),
        "label": label,
        "other": other,
    }
    if wanted & {"margin", "margin-dual"}:
        margin = pull(eye[label] - eye[other])
        found["margin"], found["margin-dual"] = l2_norm(margin), norm_of(norm).dual(margin)
    if wanted & {"loss-l1", "loss-l2", "loss-linf"}:
        loss = -pull(_towards(values.softmax(dim=1), label))
        found["loss-l1"], found["loss-l2"] = l1_norm(loss), l2_norm(loss)
        found["loss-linf"] = linf_norm(loss)
    if wanted & _ROWS:
        found |= _rows(pull, values.softmax(dim=1), wanted, norm)
        if "spectral" in wanted and "spectral" not in found:
            found["spectral"] = _power(logits, point)
        if norm == "l2" and "operator" in wanted:
            found["operator"] = found["spectral"] if "spectral" in found else _power(logits, point)
    return found


def _rows(pull: Pull, softmax: Tensor, wanted: frozenset[str], norm: BoundNorm) -> dict[str, Tensor]:
    """Return the measures that need every row of the Jacobian, one row at a time."""
    n, classes = softmax.shape
    eye = torch.eye(classes, dtype=softmax.dtype, device=softmax.device)
    zero = softmax.new_zeros(n)
    square, longest, steepest, longest_dual = zero, zero, zero, zero
    columns: Tensor | None = None
    kept: list[Tensor] = []
    gram = classes <= GRAM and ("spectral" in wanted or (norm == "l2" and "operator" in wanted))
    for i in range(classes):
        if "probability" in wanted:
            away = _towards(softmax, torch.full((n,), i, device=softmax.device))
            steepest = torch.maximum(steepest, l2_norm(pull(softmax[:, i : i + 1] * away)))
        if wanted <= {"probability"}:
            continue
        row = pull(eye[i].expand(n, classes))
        length = l2_norm(row)
        square = square + length.square()
        longest = torch.maximum(longest, length)
        longest_dual = torch.maximum(longest_dual, norm_of(norm).dual(row))
        if norm == "l1":
            columns = row.abs() if columns is None else columns + row.abs()
        if gram:
            kept.append(row)
    found = {"frobenius": square.sqrt(), "row": longest, "row-dual": longest_dual, "probability": steepest}
    if norm == "linf":
        found["operator"] = longest_dual
    elif columns is not None:
        found["operator"] = columns.amax(dim=1)
    if gram:
        rows = torch.stack(kept, dim=1)
        # LAPACK gives up a whole batch for one NaN: such an image has no singular values, the others have theirs.
        known = rows.isfinite().flatten(1).all(dim=1)
        rows = torch.where(known.view(-1, 1, 1), rows, 0.0)
        # Divided by the largest entry first, so that squares neither underflow nor overflow.
        scale = rows.abs().amax(dim=(1, 2)).clamp_min(torch.finfo(rows.dtype).tiny)
        rows = rows / scale.view(-1, 1, 1)
        spectral = torch.linalg.eigvalsh(rows @ rows.mT)[:, -1].clamp_min(0).sqrt() * scale
        found["spectral"] = torch.where(known, spectral, torch.nan)
    return found


def _towards(softmax: Tensor, label: Tensor) -> Tensor:
    """e_i - p for the label i of every image, (n, classes); 1 - p_i as the sum of the others, which cancels nothing."""
    own = label.view(-1, 1)
    others = softmax.scatter(1, own, 0.0)
    return (-others).scatter(1, own, others.sum(dim=1, keepdim=True))


def _power(logits: Tensor, point: Tensor, iterations: int = 300, tolerance: float = 1e-9) -> Tensor:
    """||J||_2 by power iteration on J J^T, from below: (n,).

    J v is the derivative of J^T u by u along v (u enters linearly), so that two reverse passes do, and no network
    has to support forward mode.
    """
    generator = torch.Generator(device="cpu").manual_seed(0)
    u = torch.randn(logits.shape, generator=generator, dtype=logits.dtype).to(logits.device)
    largest = logits.new_zeros(len(logits)).detach()
    for _ in range(iterations):
        u = (u / l2_norm(u).clamp_min(1e-300 if u.dtype == torch.float64 else 1e-30)[:, None]).detach()
        with torch.enable_grad():
            weights = u.requires_grad_(True)
            (pulled,) = torch.autograd.grad(logits, point, weights, create_graph=True, retain_graph=True)
            length = l2_norm(pulled.detach())
            (u,) = torch.autograd.grad(pulled, weights, pulled.detach(), retain_graph=True)
        before, largest = largest, torch.maximum(largest, length)
        if bool((largest - before <= tolerance * largest).all()):
            break
    return largest
