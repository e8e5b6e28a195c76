"""The network as it is deployed: an ONNX file in onnxruntime, to check what was found with robcert's own network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from robcert.network.card import Card
from robcert.network.normalize import with_normalization
from robcert.types import LoadedModel


@dataclass(frozen=True)
class Deployed:
    """A model in onnxruntime.

    Attributes:
        provider: what really executes it ("CUDAExecutionProvider", "CPUExecutionProvider").
        asked: what was asked for.
        exported: whether robcert wrote the ONNX file for this: the model was none.
        head: the operators between the logits and the output of the file, which the logits are without.
        names: of all outputs of the file.
        half: whether the file computes with half precision.
    """

    provider: str
    asked: str
    exported: bool
    head: tuple[str, ...]
    names: tuple[str, ...]
    half: bool
    _runtime: object
    _wanted: str
    _before: nn.Module
    _channels_last: bool

    @staticmethod
    def of(model: LoadedModel, device: str = "cpu", *, outputs: bool = False) -> Deployed:
        """The deployed form of a model; one that is no ONNX file is exported first.

        Args:
            model: what `robcert.network.load_model` returned.
            device: "cuda" asks for the CUDA provider; see `provider` for what came of it.
            outputs: answer with the output of the file rather than with its logits, where a softmax stands between.

        Raises:
            EvaluationError: it cannot be exported, or onnxruntime does not take it.
        """
        from robcert.network.onnx_import.parity import computes_in_half, with_outputs
        from robcert.network.onnx_import.read import read_onnx
        from robcert.network.onnx_import.runtime import Runtime
        from robcert.network.onnx_import.signature import signature

        exported = model.source.format != "onnx"
        with TemporaryDirectory() as folder:
            path = Path(model.source.path)
            if exported:
                from robcert.network.onnx_export import export_onnx

                path = export_onnx(model, Path(folder) / "model.onnx")
            proto = read_onnx(path)
        found = signature(proto, path, model.input_shape)
        card = Card() if exported else Card.model_validate(model.card or {})
        before = with_normalization(nn.Identity(), card.mean, card.std, model.input_shape)
        wanted = found.output if outputs else found.logits
        runtime = Runtime(with_outputs(proto, [wanted]), found.name, found.fixed, device=device)
        asked = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        names = tuple(given.name for given in proto.graph.output)
        facts = (runtime.provider, asked, exported, found.head, names, computes_in_half(proto))
        return Deployed(*facts, runtime, wanted, before, found.channels_last)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """The logits, or the outputs: (n, *input_shape) in the box -> (n, classes) float32, on the CPU."""
        from robcert.network.onnx_import.runtime import Runtime

        assert isinstance(self._runtime, Runtime)
        images = self._before(x.detach().cpu().float())
        parts = [
            self._runtime(part.movedim(1, -1) if self._channels_last else part, [self._wanted])[0]
            for part in images.split(64)
        ]
        return torch.cat(parts).float() if parts else torch.zeros(0, 0)
