"""The executed network as an ONNX file: for onnxruntime and every other runtime, and for robcert to read again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from robcert.errors import EvaluationError, first_line
from robcert.network.card import SAFETENSORS_KEY
from robcert.network.export import described, executed, exported_program, same_answers
from robcert.network.export_errors import quiet
from robcert.network.onnx_import.read import messages
from robcert.network.save import write_model
from robcert.types import LoadedModel

OPSET = 20
"""Old enough for every runtime that is in use, new enough for GELU and group normalisation as one op."""


def export_onnx(model: LoadedModel, path: str | Path, card_extra: Mapping[str, Any] | None = None) -> Path:
    """Write the network that robcert executes: float32, folded, normalisation inside, logits out, any batch.

    The file takes its name when it was read back and compared with the network (by robcert's reader, and by
    onnxruntime). The card is in its metadata.

    Args:
        model: what `load_model` returned.
        path: the file.
        card_extra: fields of the card to set.

    Raises:
        UsageError: the folder does not exist or cannot be written; an unknown field of the card.
        EvaluationError: torch cannot export the network, or what was written answers differently.
    """
    from robcert.network.onnx_import.load import load_onnx

    card = described(model, card_extra or {})
    module, script = executed(model)
    if script:
        raise EvaluationError(
            f"{model.name} is TorchScript, which has no graph that ONNX could be written from",
            "Save its weights, and load them with --arch.",
        )

    def write(temporary: Path) -> None:
        written = _onnx(exported_program(module, model), model.name)
        entry = written.metadata_props.add()
        entry.key, entry.value = SAFETENSORS_KEY, card.to_json()
        temporary.write_bytes(written.SerializeToString())
        same_answers(model, module, load_onnx(temporary, model.input_shape, model.box))

    return write_model(Path(path), write)


def _onnx(exported: ExportedProgram, name: str) -> Any:
    """Return the ``onnx.ModelProto`` of a graph of ATen operators."""
    exported = _without_divisors(exported)
    try:
        with quiet():
            # Its optimiser drops small constants, such as the 2^-80 that gives the root of norm-pooling a slope at 0.
            done: Any = torch.onnx.export(
                exported, dynamo=True, optimize=False, verbose=False, external_data=False, opset_version=OPSET
            )
        return _trimmed(done.model_proto)
    except Exception as error:
        raise EvaluationError(
            f"torch cannot write {name} as ONNX: {first_line(error)}", "robcert export MODEL out.pt2 may work."
        ) from error


def _trimmed(proto: Any) -> Any:
    """Without notes for debugging, which name files of this machine."""
    for message in messages(proto):
        for name in ("doc_string", "metadata_props"):
            if name in message.DESCRIPTOR.fields_by_name:
                message.ClearField(name)
    return proto


def _without_divisors(exported: ExportedProgram) -> ExportedProgram:
    """Sums over windows as means, times the size of a window: torch's exporter drops ``divisor_override``."""
    graph = exported.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not torch.ops.aten.avg_pool2d.default or len(node.args) < 7:
            continue
        x, kernel, stride, padding, ceil, _, divisor = node.args
        if divisor is None:
            continue
        if ceil:
            raise EvaluationError("an average pool with a divisor of its own and ceil_mode cannot be written as ONNX")
        sides: Any = kernel
        size = sides[0] * sides[-1]
        node.args = (x, kernel, stride, padding, False, True)
        with graph.inserting_after(node):
            scaled = graph.call_function(torch.ops.aten.mul.Tensor, (node, size / float(divisor)))  # pyright: ignore
        scaled.meta = dict(node.meta)
        node.replace_all_uses_with(scaled, delete_user_cb=lambda user, scaled=scaled: user is not scaled)
    exported.graph_module.recompile()
    return exported
