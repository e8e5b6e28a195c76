"""Attributes and tensors of an ONNX file as Python values and tensors of torch; sizes are checked first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from robcert.network.onnx_import import limits
from robcert.network.onnx_import.values import Unsupported

_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
_INTEGERS = {
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "UINT16": torch.int64,
    "UINT32": torch.int64,
    "UINT64": torch.int64,
}
_REPEATED = {"FLOAT": "float_data", "DOUBLE": "double_data", "INT64": "int64_data", "UINT32": "uint64_data",
             "UINT64": "uint64_data"}  # fmt: skip


def tensor_of(proto: Any) -> Tensor:
    """Return a tensor of the file: every float as float32; integers that torch computes with as they are, others as
    int64.

    Raises:
        Unsupported: its type is none that a network computes with; it declares more than it holds.
    """
    import onnx

    kind = _kind(proto.data_type)
    dims = [int(d) for d in proto.dims]
    if any(d < 0 for d in dims):
        raise Unsupported(f"the tensor {proto.name!r} has a negative size")
    count = limits.entries(dims)
    limits.check(count, limits.MOST_BYTES, f"the tensor {proto.name!r}")
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise Unsupported(f"the data of tensor {proto.name!r} are in another file")
    if proto.raw_data:
        width = onnx.helper.tensor_dtype_to_np_dtype(proto.data_type).itemsize
        held = len(proto.raw_data) // width
    else:
        held = len(getattr(proto, _REPEATED.get(kind, "int32_data")))
    if held < count:
        raise Unsupported(f"the tensor {proto.name!r} declares {count:,} entries and holds {held:,}")
    try:
        array = onnx.numpy_helper.to_array(proto)
    except Exception as error:
        raise Unsupported(f"the tensor {proto.name!r} cannot be read: {error}") from None
    if kind in _FLOATS:
        with np.errstate(all="ignore"):
            return torch.from_numpy(np.array(array, dtype=np.float32))
    if kind == "BOOL":
        return torch.from_numpy(np.array(array, dtype=bool))
    wide = array.astype(np.int64) if _INTEGERS[kind] is torch.int64 else array
    return torch.from_numpy(np.array(wide)).to(_INTEGERS[kind])


def _kind(number: int) -> str:
    import onnx

    try:
        kind = str(onnx.TensorProto.DataType.Name(number))
    except ValueError:
        kind = f"type {number}"
    if kind not in (*_FLOATS, *_INTEGERS, "BOOL"):
        raise Unsupported(f"tensors of {kind} are not read (floats, integers and booleans are)")
    return kind


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name; graphs are left as they are, tensors become tensors of torch.

    Raises:
        Unsupported: an attribute is of a type that no op of the table has.
    """
    return {attribute.name: _attribute(attribute) for attribute in node.attribute}


def _attribute(attribute: Any) -> Any:
    import onnx

    kind, types = attribute.type, onnx.AttributeProto
    plain = (types.FLOAT, types.INT, types.FLOATS, types.INTS, types.GRAPH)
    if kind not in (*plain, types.TENSOR, types.STRING, types.STRINGS):
        raise Unsupported(f"the attribute {attribute.name!r} is of a type that robcert does not read")
    value: Any = onnx.helper.get_attribute_value(attribute)
    if kind == types.TENSOR:
        return tensor_of(value)
    if kind == types.STRING:
        return value.decode("utf-8", "replace")
    return value if kind in plain else [text.decode("utf-8", "replace") for text in value]


def dtype_of(number: int) -> torch.dtype:
    """Return the type in which robcert computes what the file calls type ``number``.

    Raises:
        Unsupported: no number.
    """
    kind = _kind(number)
    return torch.float32 if kind in _FLOATS else _INTEGERS.get(kind, torch.bool)
