r"""Muon on the Stiefel manifold: orthogonal steps along it, for matrices that stay orthonormal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from robcert.errors import UsageError
from robcert.training.precision import multiplies_bfloat16

_COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""Of Muon's quintic, which brings singular values of (0, 1] near 1 in a few steps."""
_STEPS = 4
_NEAR = 0.1
"""The largest entry of W^T W - I at the beginning; within it the way back to the manifold converges."""


class StiefelMuon(torch.optim.Optimizer):
    r"""Moves matrices with orthonormal rows (or columns, where those are fewer) along the manifold of such matrices.

    With W and the gradient G turned so that W has orthonormal columns, :math:`W^\top W = I`:

    .. math:: M \leftarrow \mu M + G, \quad U = G + \mu M, \quad
        U \leftarrow U - W \tfrac12 (W^\top U + U^\top W), \quad W \leftarrow W - \eta \, \mathrm{polar}(U),

    where the third projects onto the tangent space and polar is Muon's Newton-Schulz iteration; one step
    :math:`W \leftarrow \tfrac32 W - \tfrac12 W W^\top W` goes back to the manifold, all but the square of what it
    was off. `finish` leaves the exact polar factor.

    Args:
        parameters: matrices, orthonormal at the beginning.
        lr: the length of a step: that of each singular value.
        momentum: mu.

    Raises:
        UsageError: a matrix that is not orthonormal.

    Source: K. Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; the projection is that of
        P.-A. Absil, R. Mahony, R. Sepulchre, Optimization algorithms on matrix manifolds, 2008, eq. 3.35.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
            short = parameter.detach() if parameter.shape[0] <= parameter.shape[1] else parameter.detach().T
            off = float((short @ short.T - torch.eye(len(short), device=short.device)).abs().max())
            if off > _NEAR:
                raise UsageError(
                    f"stiefel-muon was given a matrix {tuple(parameter.shape)} whose rows are not orthonormal",
                    'Use architecture.name = "orthogonal", or optimiser.name = "muon".',
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every matrix once."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                moving = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                update = parameter.grad.add(moving, alpha=group["momentum"])
                tall = parameter.shape[0] >= parameter.shape[1]
                weight, update = (parameter, update) if tall else (parameter.T, update.T)
                moved = weight - group["lr"] * _direction(weight, update)
                off = moved.T @ moved  # float32: what is lost here stays lost
                off.diagonal().sub_(1)
                moved -= _product(moved, off).mul_(0.5)
                parameter.copy_(moved if tall else moved.T)

    @torch.no_grad()
    def finish(self) -> None:
        """Put every matrix onto the manifold: its polar factor, computed in float64."""
        for group in self.param_groups:
            for parameter in group["params"]:
                left, _, right = torch.linalg.svd(parameter.double(), full_matrices=False)
                parameter.copy_(left @ right)


def _direction(weight: Tensor, update: Tensor) -> Tensor:
    """Return about the polar factor of an update of a tall matrix, projected onto the tangent space."""
    inner = _product(weight.T, update)
    tangent = update - _product(weight, inner + inner.T).mul_(0.5)
    a, b, c = _COEFFICIENTS
    x = _fast(tangent.T / tangent.norm().clamp_min(1e-30))
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T.float()


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Return a product of which a few digits are enough."""
    return (_fast(first) @ _fast(second)).float()


def _fast(matrix: Tensor) -> Tensor:
    """Return a matrix in bfloat16 where that is fast."""
    return matrix.bfloat16() if multiplies_bfloat16(matrix.device) else matrix
