"""The file behind a network, executed as its users do: what confirms a counterexample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.errors import EvaluationError
from robcert.network.deployed import Deployed
from robcert.types import LoadedModel
from robcert.verification import Region
from robcert.verification.outputs import Head, head_of
from robcert.verification.problem import holds


@dataclass(frozen=True)
class File:
    """What answers for a model: the file itself in onnxruntime where it is ONNX, else robcert's network.

    Attributes:
        head: what makes its outputs of the logits that robcert's network gives.
        runtime: what executes it: a provider of onnxruntime, or "robcert".
        exact: whether it computes with float32 at least, as a proof assumes.
        channels_last: whether its inputs have their channels at the end.
        outputs: (n, *input_shape) float32 -> (n, outputs) float32.
    """

    head: Head
    runtime: str
    exact: bool
    channels_last: bool
    outputs: Callable[[Tensor], Tensor]

    @staticmethod
    def of(model: LoadedModel) -> File:
        """Return the file of a model.

        Raises:
            EvaluationError: it has several outputs, ends in an operator that is not read, or onnxruntime refuses it.
        """
        last = any(getattr(module, "channels_last", False) for module in model.module.modules())
        if model.source.format != "onnx":
            device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
            return File("none", "robcert", True, last, torch.no_grad()(lambda x: model.module(x.to(device)).cpu()))
        deployed = Deployed(model, outputs=True)
        if len(deployed.names) != 1:
            raise EvaluationError(
                f"{model.name} has the outputs {', '.join(deployed.names)}, and a property speaks of one",
                "Write the file with that output alone.",
            )
        return File(head_of(deployed.head, model.name), deployed.provider, not deployed.half, last, deployed)

    def confirms(self, case: Region, x: Tensor) -> bool:
        """Return whether an input (1, *input_shape) float32 is a counterexample, executed alone."""
        return bool(holds(case, self.outputs(x))[0])
