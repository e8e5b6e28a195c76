"""The network as it is deployed: an ONNX file in onnxruntime, to check what was found with robcert's own network."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from robcert.network.card import Card
from robcert.network.normalize import with_normalization
from robcert.types import LoadedModel


class Deployed:
    """A model in onnxruntime; one that is no ONNX file is exported first.

    Args:
        model: what `robcert.network.load_model` returned.
        device: "cuda" asks for the CUDA provider; see `provider` for what came of it.
        outputs: answer with the output of the file rather than with its logits, where a softmax stands between.

    Attributes:
        provider: what really executes it ("CUDAExecutionProvider", "CPUExecutionProvider").
        asked: what was asked for.
        exported: whether robcert wrote the ONNX file for this: the model was none.
        head: the operators between the logits and the output of the file, which the logits are without.
        names: of all outputs of the file.
        half: whether the file computes with half precision.

    Raises:
        EvaluationError: it cannot be exported, or onnxruntime does not take it.
    """

    def __init__(self, model: LoadedModel, device: str = "cpu", *, outputs: bool = False) -> None:
        from robcert.network.onnx_import.parity import computes_in_half
        from robcert.network.onnx_import.read import read_onnx
        from robcert.network.onnx_import.session import Session
        from robcert.network.onnx_import.signature import signature

        self.exported = model.source.format != "onnx"
        with TemporaryDirectory() as folder:
            path = Path(model.source.path)
            if self.exported:
                from robcert.network.onnx_export import export_onnx

                path = export_onnx(model, Path(folder) / "model.onnx")
            proto = read_onnx(path)
        found = signature(proto, path, model.input_shape)
        card = Card() if self.exported else Card.model_validate(model.card or {})
        self._before = with_normalization(nn.Identity(), card.mean, card.std, model.input_shape, card.scale)
        self._runtime = Session(proto, found, [found.output if outputs else found.logits], device=device)
        self.provider, self.head = self._runtime.provider, found.head
        self.asked = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        self.names = tuple(given.name for given in proto.graph.output)
        self.half = computes_in_half(proto)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits, or the outputs: (n, *input_shape) in the box -> (n, classes) float32, on the CPU."""
        parts = [self._runtime(part)[0] for part in self._before(x.detach().cpu().float()).split(64)]
        return torch.cat(parts).float() if parts else torch.zeros(0, 0)
