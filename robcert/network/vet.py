"""A torch.export archive is a graph of operators; this is what holds it to that.

``torch.export.load`` trusts its file: it unpickles what the file marks as pickled, evaluates symbolic
expressions with ``sympify``, runs guards as Python code, and turns names into source. robcert therefore never
gives it a stranger's file. It reads the few members that describe a graph, checks every string in them, and
hands torch a new archive of what passed.
"""

from __future__ import annotations

import ast
import io
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive._package import PT2ArchiveReader, PT2ArchiveWriter

from robcert.errors import EvaluationError
from robcert.network.detect import REEXPORT

_MODEL = "models/model.json"
_SAMPLE = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/": "data/weights/model_weights_config.json",
    "data/constants/": "data/constants/model_constants_config.json",
}
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_WORD = re.compile(r"[\w.:<>=+/\[\] -]*", re.ASCII)
_NAME = re.compile(r"([A-Za-z_]\w*)?", re.ASCII)
_STACK = re.compile(r"[\w.,;:()'<>=\[\] -]*", re.ASCII)
_SYMBOL = re.compile(r"[A-Za-z]\w*", re.ASCII)
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.(?!from_file|save)\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond|map|scan|while_loop)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|math\.\w+|torch\.sym_\w+",
    re.ASCII,
)
_TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_EXPRESSION = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp),
    *(ast.Compare, ast.operator, ast.unaryop, ast.cmpop),
)


class _Unsafe(Exception):
    """Something that a graph of operators has no need of."""


def vetted(path: Path) -> io.BytesIO:
    """A copy of the archive, in memory, that holds a graph, tensors, and nothing that could run.

    Raises:
        EvaluationError: the archive holds pickled objects or code, or calls what is no tensor operator.
    """
    buffer = io.BytesIO()
    try:
        with PT2ArchiveReader(str(path)) as reader, PT2ArchiveWriter(buffer) as writer:
            _copy(reader, writer)
    except _Unsafe as found:
        raise EvaluationError(
            f"{path} is a torch.export archive that holds more than a graph of tensor operators: {found}; "
            "it was not run",
            REEXPORT,
        ) from None
    buffer.seek(0)
    return buffer


def _copy(reader: PT2ArchiveReader, writer: PT2ArchiveWriter) -> None:
    names = set(reader.get_file_names())
    graphs = sorted(name for name in names if name.startswith("models/"))
    if graphs != [_MODEL]:
        raise _Unsafe(f"expected {_MODEL} alone, found {', '.join(graphs[:3]) or 'no graph'}")
    writer.write_string("archive_version", reader.read_string("archive_version"))
    graph = json.loads(reader.read_bytes(_MODEL))
    writer.write_string(_MODEL, json.dumps(_clean(graph)))
    for folder, config_name in _CONFIGS.items():
        if config_name not in names:
            raise _Unsafe(f"{config_name} is missing (pickled instead?)")
        config = _clean(json.loads(reader.read_bytes(config_name)))
        for meta in config["config"].values():
            if meta["use_pickle"] is not False or _PAYLOAD.fullmatch(meta["path_name"]) is None:
                raise _Unsafe(f"{meta['path_name']} is a pickled object")
            payload = f"{folder}{meta['path_name']}"
            if payload in names:  # an empty tensor has no payload
                names.discard(payload)
                writer.write_bytes(payload, reader.read_bytes(payload))
        writer.write_string(config_name, json.dumps(config))
    sample = reader.read_bytes(_SAMPLE)
    if sample:
        try:  # torch falls back to unpickling where this fails
            torch.load(io.BytesIO(sample), weights_only=True)
        except Exception:
            raise _Unsafe("its sample inputs are pickled objects") from None
    writer.write_bytes(_SAMPLE, sample)


def _clean(value: Any, key: str = "") -> Any:
    """The value without what is only for debugging; anything suspicious is refused."""
    if isinstance(value, dict):
        return {_word(name): _clean_field(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, key) for item in value]
    return _text(value, key) if isinstance(value, str) else value


def _clean_field(key: str, value: Any) -> Any:
    if key == "guards_code":
        return []  # Python source
    if key in ("treespec_namedtuple_fields", "custom_obj_values"):
        if value:
            raise _Unsafe(f"{key} is not empty")
        return value
    if key == "metadata":
        if not isinstance(value, dict):
            raise _Unsafe("metadata is no table")
        kept = {name: value[name] for name in ("nn_module_stack", "torch_fn") if name in value}
        return {k: v for k, v in kept.items() if isinstance(v, str) and _STACK.fullmatch(v)}
    return _clean(value, key)


def _text(text: str, key: str) -> str:
    if key == "expr_str":
        _check_expression(text)
    elif key in ("in_spec", "out_spec"):
        if text:
            _check_tree(json.loads(text))
    elif key in ("target", "as_operator"):
        if text and _OPERATOR.fullmatch(text) is None:
            raise _Unsafe(f"it calls {text[:80]!r}")
    elif key == "name":
        if _NAME.fullmatch(text) is None:
            raise _Unsafe(f"{text[:80]!r} is no name")
    else:
        _word(text)
    return text


def _word(text: str) -> str:
    if _WORD.fullmatch(text) is None or "__" in text.replace("L__self__", ""):
        raise _Unsafe(f"the text {text[:80]!r}")
    return text


def _check_tree(tree: Any) -> None:
    """How inputs are nested: tuples, lists and dictionaries; other types would be imported by name."""
    for node in tree[1:] if isinstance(tree, list) and tree and isinstance(tree[0], int) else [tree]:
        if not isinstance(node, dict) or node.get("type") not in _TREES:
            raise _Unsafe("inputs or outputs of a type of their own")
        for child in node.get("children_spec", []):
            _check_tree(child)


def _check_expression(text: str) -> None:
    """Sizes as sympy writes them: its constructors over symbols and numbers; no attribute, no other call."""
    for node in ast.walk(ast.parse(text, mode="eval")):
        if not isinstance(node, _EXPRESSION):
            raise _Unsafe(f"the expression {text[:80]!r}")
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id[:1].isupper()):
            raise _Unsafe(f"the expression {text[:80]!r}")
        if isinstance(node, ast.Name) and _SYMBOL.fullmatch(node.id) is None:
            raise _Unsafe(f"the expression {text[:80]!r}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _SYMBOL.fullmatch(node.value):
            raise _Unsafe(f"the expression {text[:80]!r}")
