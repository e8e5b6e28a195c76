"""Recurrent layers, in both readings of what is nonexpansive about them."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.nn.activations import TwoSidedReLU
from robcert.nn.split import Split


class Recurrent(nn.Module):
    """h_i = two-sided ReLU(W (x_i, r_{i-1}) + b), and an output o_i at every time step i.

    W is one matrix over inputs and recurrent inputs, so `robcert.nn.nonexpansive.constrain` makes ||dh_i||^2 <=
    ||dx_i||^2 + ||dr_{i-1}||^2. What follows depends on what goes where:

    - "each": o_i = r_i = h_i. Each output alone is nonexpansive in the whole sequence (the unrolled network is
      one L2NNN a time step, and they overlap); all outputs together are not.
    - "all": o_i = t h_i and r_i = sqrt(1 - t^2) h_i, a split at the source of the recurrent connection. All
      outputs together are nonexpansive in the whole sequence: adding up ||do_i||^2 + ||dr_i||^2 = ||dh_i||^2 over
      i leaves sum ||do_i||^2 <= sum ||dx_i||^2.

    Args:
        inputs: entries of x_i.
        neurons: rows of W; h_i has twice as many entries.
        reading: "each" or "all".
        shape: of t for "all": () for one t, or (2 * neurons,) for one an entry.

    Shapes: (n, steps, inputs) -> (n, steps, 2 * neurons).

    Source: L2-Nonexpansive Neural Networks, appendix A.4.
    """

    def __init__(
        self, inputs: int, neurons: int, *, reading: Literal["each", "all"] = "each", shape: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.width = 2 * neurons
        self.linear = nn.Linear(inputs + self.width, neurons)
        self.activation = TwoSidedReLU()
        self.split = Split(shape) if reading == "all" else None

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of all time steps."""
        state: Tensor | None = None
        outputs: list[Tensor] = []
        for step in x.unbind(1):
            # Nothing was there before the first step.
            both = functional.pad(step, (0, self.width)) if state is None else torch.cat([step, state], dim=1)
            state = output = cast(Tensor, self.activation(self.linear(both)))
            if self.split is not None:
                output, state = self.split(state)
            outputs.append(output)
        return torch.stack(outputs, dim=1)
