"""A torch.export archive is a graph of operators; this is what holds it to that.

``torch.export.load`` trusts its file: it unpickles what the file marks as pickled, evaluates the expressions of sizes,
runs guards as Python code, imports types by name, and turns names into source. robcert therefore never gives it a
stranger's file. It parses the few members that describe a graph along torch's own schema, every field by its type and
every text by its grammar, and hands torch a new archive of what was understood.
"""

from __future__ import annotations

import dataclasses
import io
import json
import keyword
import math
import re
import types
import typing
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._export.serde import schema
from torch._export.serde.union import _Union as Union  # pyright: ignore[reportPrivateUsage]
from torch.export.pt2_archive._package import PT2ArchiveReader, PT2ArchiveWriter

from robcert.errors import EvaluationError
from robcert.network.allowed_operators import exported_is_pure
from robcert.network.detect import REEXPORT, UNPACKED
from robcert.network.size_expressions import is_size_expression, is_symbol, is_tree

_MODEL = "models/model.json"
_SAMPLE = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/": "data/weights/model_weights_config.json",
    "data/constants/": "data/constants/model_constants_config.json",
}
_LONGEST = 4000
_DEEPEST = 200

_NODE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PART = re.compile(r"[\w/:,;@#$%&*+=<>|~^!?()\[\]-][\w /:,;@#$%&*+=<>|~^!?()\[\]-]*")
"""One part of the name of a weight. Quotes, backslashes, braces and line ends are not among it: torch writes these
names into source."""
_OWN = frozenset(vars(nn.Module())) | frozenset(("forward", "graph", "code"))
"""Names of every module that a weight must not replace."""
_STACK_ENTRY = re.compile(r"[^,;()\[\]'\"\\{}\n\r]*(,[^,;()\[\]'\"\\{}\n\r]*){2}")
_TORCH_FN = re.compile(r"[\w.<>]*;[\w.<>]*", re.ASCII)


class _Unsafe(Exception):
    """Something that a graph of operators has no need of."""


def safe_copy(path: Path) -> io.BytesIO:
    """Return a copy of the archive, in memory, that holds a graph, tensors, and nothing that could run.

    Raises:
        EvaluationError: the archive holds pickled objects or code, or calls what is no tensor operator.
    """
    buffer = io.BytesIO()
    try:
        with PT2ArchiveReader(str(path)) as reader, PT2ArchiveWriter(buffer) as writer:
            _copy(reader, writer, path.stat().st_size)
    except _Unsafe as found:
        raise EvaluationError(
            f"{path} is a torch.export archive that holds more than a graph of tensor operators: {found}; "
            "it was not run",
            REEXPORT,
        ) from None
    buffer.seek(0)
    return buffer


def _copy(reader: PT2ArchiveReader, writer: PT2ArchiveWriter, size: int) -> None:
    names = set(reader.get_file_names())
    graphs = sorted(name for name in names if name.startswith("models/"))
    if graphs != [_MODEL]:
        raise _Unsafe(f"expected {_MODEL} alone, found {', '.join(graphs[:3]) or 'no graph'}")
    writer.write_string("archive_version", reader.read_string("archive_version"))
    writer.write_string(_MODEL, json.dumps(_parsed(schema.ExportedProgram, json.loads(reader.read_bytes(_MODEL)))))
    declared = 0
    for folder, config_name in _CONFIGS.items():
        if config_name not in names:
            raise _Unsafe(f"{config_name} is missing (pickled instead?)")
        config = _parsed(schema.PayloadConfig, json.loads(reader.read_bytes(config_name)))
        for name, meta in config["config"].items():
            if meta["use_pickle"] or meta["tensor_meta"] is None:
                raise _Unsafe(f"{meta['path_name']} is a pickled object")
            payload = f"{folder}{meta['path_name']}"
            held = reader.archive_file.get_record_size(payload) if payload in names else 0
            declared += _checked_bytes(name, meta["tensor_meta"], held)
        for payload in sorted(names & {f"{folder}{meta['path_name']}" for meta in config["config"].values()}):
            writer.write_bytes(payload, reader.read_bytes(payload))
        writer.write_string(config_name, json.dumps(config))
    if declared > UNPACKED * size + 2**24:
        raise _Unsafe(f"its tensors say {declared:,} bytes, and the file has {size:,}")
    try:
        sample = reader.read_bytes(_SAMPLE)
        if sample:
            torch.load(io.BytesIO(sample), weights_only=True)
    except Exception:
        raise _Unsafe("its sample inputs are pickled objects") from None
    writer.write_bytes(_SAMPLE, b"")  # torch would unpickle it, and nobody needs it


def _checked_bytes(name: str, meta: dict[str, Any], held: int) -> int:
    """Return the bytes that a tensor declares; every entry must lie within those that the archive holds for it."""
    try:
        sizes = [size["as_int"] for size in meta["sizes"]]
        strides = [stride["as_int"] for stride in meta["strides"]]
        offset: int = meta["storage_offset"]["as_int"]
        dtype = _dtype(meta["dtype"])
    except KeyError:
        raise _Unsafe(f"the weight {name[:80]!r} has a symbolic size") from None
    if meta["device"]["type"] == "meta" or meta["layout"] != schema.Layout.Strided or len(sizes) != len(strides):
        raise _Unsafe(f"the weight {name[:80]!r} is no plain tensor")
    if min((*sizes, *strides, offset), default=0) < 0:
        raise _Unsafe(f"the weight {name[:80]!r} has a negative size")
    count = math.prod(sizes)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if count and (last + 1) * dtype.itemsize > held:
        raise _Unsafe(f"the weight {name[:80]!r} has {held:,} bytes and reaches to {(last + 1) * dtype.itemsize:,}")
    return count * dtype.itemsize


def _dtype(code: int) -> torch.dtype:
    from torch._export.serde.serialize import deserialize_scalar_type

    return deserialize_scalar_type(schema.ScalarType(code))


def _parsed(kind: Any, data: Any, place: str = "", depth: int = 0) -> Any:
    """Return the JSON form of a type of torch's schema, understood in full.

    Args:
        kind: a dataclass, a union, an enumeration, list[...], dict[str, ...], Optional[...] or a plain type.
        data: what the file holds.
        place: "Class.field" that it stands in, which says the grammar of a text.
        depth: of nesting.

    Raises:
        _Unsafe: it has another type, a field that is unknown, or a text that torch would not write there.
    """
    if depth > _DEEPEST:
        raise _Unsafe("it is nested too deeply")
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType) and type(None) in inner:
        return None if data is None else _parsed(inner[0], data, place, depth)
    if origin is list:
        _check(isinstance(data, list), place, data)
        return [_parsed(inner[0], item, place, depth + 1) for item in data]
    if origin is dict:
        _check(isinstance(data, dict), place, data)
        for key in data:
            _check(_KEYS.get(place, _is_node)(key), place, key)
        return {key: _parsed(inner[1], item, place, depth + 1) for key, item in data.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _parsed_fields(kind, data, depth)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        _check(type(data) is int and data in set(kind), place, data)
    elif kind is str:
        _check(isinstance(data, str) and _TEXTS.get(place, _is_node)(data), place, data)
    elif kind is float:
        _check(type(data) in (int, float) or data in ("Infinity", "-Infinity", "NaN"), place, data)
    else:
        _check(kind in (int, bool) and type(data) is kind, place, data)
        _check(kind is bool or -(2**63) <= data < 2**64, place, data)
    return data


def _parsed_fields(kind: type, data: Any, depth: int) -> dict[str, Any]:
    name = kind.__name__
    _check(name not in _REFUSED and isinstance(data, dict), name, data)
    hints = typing.get_type_hints(kind, globalns=dict(vars(schema)))
    unknown = set(data) - set(hints)
    if unknown:
        raise _Unsafe(f"the field {min(unknown)[:80]!r} of a {name}, which torch {torch.__version__} does not know")
    fields, is_union = dataclasses.fields(kind), issubclass(kind, Union)
    _check(not is_union or len(data) == 1, name, list(data))
    parsed: dict[str, Any] = {}
    for field in fields:
        place = f"{name}.{field.name}"
        if field.name not in data:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and not is_union:
                raise _Unsafe(f"{place} is missing")
        elif place in _EMPTIED:
            parsed[field.name] = _EMPTIED[place]
        elif place == "Node.metadata":
            parsed[field.name] = _metadata(data[field.name])
        else:
            parsed[field.name] = _parsed(hints[field.name], data[field.name], place, depth + 1)
    return parsed


def _check(fine: bool, place: str, found: Any) -> None:
    if fine:
        return
    if place in ("Node.target", "Argument.as_operator"):
        raise _Unsafe(f"it calls {str(found)[:80]!r}")
    raise _Unsafe(f"{place} is {str(found)[:80]!r}")


def _metadata(given: Any) -> dict[str, str]:
    """The modules that a node came from, where they are written as torch writes them; nothing else about its origin."""
    kept: dict[str, str] = {}
    if not isinstance(given, dict):
        return kept
    stack, function = given.get("nn_module_stack"), given.get("torch_fn")
    if isinstance(stack, str) and all(_STACK_ENTRY.fullmatch(entry) for entry in stack.split(";")):
        kept["nn_module_stack"] = stack
    if isinstance(function, str) and _TORCH_FN.fullmatch(function):
        kept["torch_fn"] = function
    return kept


def _is_node(text: str) -> bool:
    """Return whether a text is the name of a value or an argument: it becomes a variable in source."""
    return _NODE.fullmatch(text) is not None and not keyword.iskeyword(text) and len(text) < _LONGEST


def _is_weight(text: str) -> bool:
    """Return whether a text is the name of a weight or a module: parts joined by dots, which become attributes."""
    parts = text.split(".")
    return len(text) < _LONGEST and all(
        _PART.fullmatch(part) and part not in _OWN and not (part.startswith("__") and part.endswith("__"))
        for part in parts
    )


def _is_text(text: str) -> bool:
    """Return whether a text is plain: the mode of an operator, the message of an assertion, the key of an output."""
    return len(text) < _LONGEST and all(c.isprintable() or c in "\n\t" for c in text)


def _is_device(text: str) -> bool:
    return text in ("cpu", "cuda", "mps", "xpu")


def _is_version(text: str) -> bool:
    return re.fullmatch(r"[\w.+<=>-]{0,80}", text, re.ASCII) is not None


_REFUSED = frozenset(("CustomObjArgument", "TokenArgument", "NamedTupleDef"))
"""Objects of classes of their own, effects, and types that are looked up by name."""

_EMPTIED: dict[str, Any] = {"ExportedProgram.guards_code": [], "GraphModule.metadata": {}}
"""Python source, and notes."""

_TEXTS: dict[str, Callable[[str], bool]] = {
    "Node.target": exported_is_pure,
    "Argument.as_operator": exported_is_pure,
    "Argument.as_string": _is_text,
    "Argument.as_strings": _is_text,
    "ConstantValue.as_string": _is_text,
    "SymExpr.expr_str": is_size_expression,
    "Device.type": _is_device,
    "NamedArgument.name": lambda text: text == "" or _is_node(text),
    "InputToConstantInputSpec.name": lambda text: text == "" or _is_node(text),
    "InputToParameterSpec.parameter_name": _is_weight,
    "InputToBufferSpec.buffer_name": _is_weight,
    "InputToTensorConstantSpec.tensor_constant_name": _is_weight,
    "BufferMutationSpec.buffer_name": _is_weight,
    "ParameterMutationSpec.parameter_name": _is_weight,
    "GradientToParameterSpec.parameter_name": _is_weight,
    "ModuleCallEntry.fqn": lambda text: text == "" or _is_weight(text),
    "ModuleCallSignature.in_spec": lambda text: text == "" or is_tree(text, _is_node),
    "ModuleCallSignature.out_spec": lambda text: text == "" or is_tree(text, _is_text),
    "PayloadMeta.path_name": lambda text: re.fullmatch(r"(weight|tensor)_\d{1,9}", text, re.ASCII) is not None,
    "ExportedProgram.torch_version": _is_version,
}
"""The grammar of every text that is no name of a value, by the class and field of torch's schema."""

_KEYS: dict[str, Callable[[str], bool]] = {
    "Argument.as_string_to_argument": _is_text,
    "PayloadConfig.config": _is_weight,
    "ExportedProgram.range_constraints": is_symbol,
}
