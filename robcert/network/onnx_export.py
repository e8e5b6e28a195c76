"""The executed network as an ONNX file: for onnxruntime and every other runtime, and for robcert to read again."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from robcert.errors import EvaluationError, UsageError
from robcert.files import fresh
from robcert.network import program
from robcert.network.card import SAFETENSORS_KEY
from robcert.network.export import described, exported_program, same_answers, write_whole
from robcert.network.fold import copy_module
from robcert.types import LoadedModel

OPSET = 20
"""Old enough for every runtime that is in use, new enough for GELU and group normalisation as one op."""


def export_onnx(model: LoadedModel, path: str | Path, card_extra: Mapping[str, Any] | None = None) -> Path:
    """Writes the network that robcert executes: float32, folded, normalisation inside, logits out, any batch.

    The file is written to a temporary name, read back, compared with the network (by robcert's reader, and by
    onnxruntime), and renamed. The card is in its metadata.

    Args:
        model: what `load_model` returned.
        path: the file.
        card_extra: fields of the card to set.

    Raises:
        UsageError: the folder does not exist or cannot be written; an unknown field of the card.
        EvaluationError: torch cannot export the network, or what was written answers differently.
    """
    from robcert.network.onnx_import.load import load_onnx

    path = Path(path)
    card = described(model, card_extra or {})
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}")
    with program.without_deprecations():
        module = copy_module(model.module).cpu().eval()
    if any(isinstance(layer, torch.jit.ScriptModule) for layer in module.modules()):
        raise EvaluationError(
            f"{model.name} is TorchScript, which has no graph that ONNX could be written from",
            "Save its weights, and load them with --arch.",
        )
    written = _onnx(exported_program(module, model), model.name)
    entry = written.metadata_props.add()
    entry.key, entry.value = SAFETENSORS_KEY, card.to_json()
    temporary = fresh(path.with_name(f".{path.stem}.partial{path.suffix}"))
    try:
        write_whole(written.SerializeToString(), temporary)
        same_answers(model, module, load_onnx(temporary, model.input_shape, model.box))
        temporary.replace(path)
    except PermissionError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written: {error.strerror or error}", "Is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _onnx(exported: ExportedProgram, name: str) -> Any:
    """The ``onnx.ModelProto`` of a graph of ATen operators."""
    exported = _without_divisors(exported)
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Its optimiser drops small constants, such as the 2^-80 that gives the root of norm-pooling a slope at 0.
            done: Any = torch.onnx.export(
                exported, dynamo=True, optimize=False, verbose=False, external_data=False, opset_version=OPSET
            )
        return _trimmed(done.model_proto)
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise EvaluationError(
            f"torch cannot write {name} as ONNX: {lines[0][:300] if lines else type(error).__name__}",
            "robcert export MODEL out.pt2 may work.",
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _trimmed(proto: Any) -> Any:
    """Without notes for debugging, which name files of this machine."""
    for holder in (proto, proto.graph, *proto.functions):
        for node in getattr(holder, "node", ()):
            del node.metadata_props[:]
            node.ClearField("doc_string")
        if holder is not proto:
            del holder.metadata_props[:]
            holder.ClearField("doc_string")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        del value.metadata_props[:]
        value.ClearField("doc_string")
    del proto.metadata_props[:]
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
