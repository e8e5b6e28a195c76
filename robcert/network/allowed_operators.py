"""The operators of torch that a file may call: those that compute tensors and numbers from tensors and numbers.

torch registers operators that read and write files, print, start threads, speak to other machines or take pointers
under the same names as `relu`. A file is held to operators that torch itself knows, in namespaces that compute, all of
whose arguments are tensors and numbers, and that are none of those below.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import torch
from torch._ops import OpOverload, OpOverloadPacket

NAMESPACES = ("aten", "prims", "torchvision", "quantized", "quantized_decomposed")

_IMPURE = re.compile(
    r"from_file|from_buffer|save|load|_?print|_?pin_memory|is_pinned|record_stream|wait|data_ptr"
    r"|manual_seed|seed|initial_seed|Generator|get_gradients|owner\w*|is_owner|confirmed_by_owner|local_value|to_here"
    r"|set_?|set_\w+|_set_(?!item)\w+|\w*_unsafe|_reshape_alias\w*|_resize_output\w*|_test_\w+|_get_\w+|_use_\w+"
    r"|_?cudnn_\w+|_?cuda_\w+|_cufft\w+|_cslt\w+|_?miopen_\w+|_mps_\w+|_mkldnn\w+|_nnpack\w+|_triton\w+|_lazy_\w+"
    r"|_?nested_\w+|_?sparse_\w+|_?to_sparse\w*|_validate_\w+|_foreach_\w+|_fused_(adam|sgd|adagrad)\w*|_?backward"
    r"|_copy_from\w*|_propagate_\w+|_(add|remove)_batch_dim|_(make|unpack)_dual\w*|_debug\w+|_has_\w+|_make_dep_token"
)
"""Names of aten that reach files, the terminal, devices, other processes, storages or the state of torch."""

_VALUES = re.compile(
    r"(Tensor|int|float|bool|complex|number|Scalar|str|Device|ScalarType|Layout|MemoryFormat|SymInt|SymBool|SymFloat"
    r"|QScheme|Generator|NoneType|t\w*|Any)"
)
_QUANTIZED = "__torch__.torch.classes.quantized."
_ARITHMETIC = {
    *("add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg", "pos", "and_", "or_", "lshift", "rshift"),
    *("eq", "ne", "lt", "le", "gt", "ge"),
}
_SIZES = {"sym_not", "sym_int", "sym_float", "sym_ite", "sym_max", "sym_min", "sym_sqrt", "sym_sum"}
_HIGHER = {"wrap_with_set_grad_enabled", "wrap_with_autocast", "cond", "map", "map_impl", "scan", "while_loop"}


def is_pure(schema: Any) -> bool:
    """Return whether an operator with that schema (`torch._C.FunctionSchema`) computes values from values only."""
    namespace, _, name = schema.name.partition("::")
    if namespace not in NAMESPACES or (namespace == "aten" and _IMPURE.fullmatch(name)):
        return False
    return all(_is_value(argument.type) for argument in (*schema.arguments, *schema.returns))


def _is_value(kind: Any) -> bool:
    """Return whether a type is a tensor, a number, a text that selects a variant, or a container of these."""
    if str(kind).startswith(_QUANTIZED):
        return True
    inner = kind.containedTypes()
    if inner:
        return all(_is_value(one) for one in inner)
    text = str(kind)
    return _VALUES.fullmatch(text) is not None


def exported_is_pure(target: str) -> bool:
    """Return whether a target as torch.export writes it names a pure operator.

    Formula: ``torch.ops.NAMESPACE.NAME.OVERLOAD`` with a pure schema, one of the higher-order operators that only run
    their sub-graphs, or arithmetic on sizes (``_operator.add``, ``math.trunc``, ``torch.sym_max``).
    """
    if re.fullmatch(r"\w+(\.\w+)*", target, re.ASCII) is None:
        return False
    start, *rest = target.split(".")
    if start == "_operator":
        return len(rest) == 1 and rest[0] in _ARITHMETIC
    if start == "math":
        return rest == ["trunc"]
    if start != "torch" or not rest:
        return False
    if len(rest) == 1:
        return rest[0] in _SIZES
    if rest[:2] == ["ops", "higher_order"]:
        return len(rest) == 3 and rest[2] in _HIGHER
    if rest[0] != "ops" or len(rest) != 4 or rest[1] not in NAMESPACES:
        return False
    found = _schema(*rest[1:])
    return found is not None and is_pure(found)


def _schema(namespace: str, name: str, overload: str) -> Any:
    """Return the schema of the operator that torch finds by these names; None where it is no operator."""
    if namespace == "torchvision":
        from robcert.vision import torchvision

        torchvision()
    if namespace == "quantized_decomposed":
        importlib.import_module("torch.ao.quantization.fx._decomposed")  # declares them
    packet: Any = getattr(getattr(torch.ops, namespace), name, None)
    if not isinstance(packet, OpOverloadPacket) or overload not in packet.overloads():
        return None
    found: Any = getattr(packet, overload)
    if not isinstance(found, OpOverload):
        return None
    schema: Any = found._schema  # pyright: ignore[reportPrivateUsage]
    return schema if schema.name == f"{namespace}::{name}" else None
