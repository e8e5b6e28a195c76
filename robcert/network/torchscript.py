"""A TorchScript archive is code of torch's own language; this is what holds it to tensor operators.

Loading such an archive runs parts of it: default values of arguments, ``__setstate__`` of its classes. So robcert gives
torch a copy in memory of the members that it has understood, and only after three checks: the pickles name only
tensors, lists and classes of the archive; default values are literals; and every function of every class, compiled
by torch from the code alone with none of the archive's objects, is a graph of operators that compute.
"""

from __future__ import annotations

import ast
import io
import pickletools
import re
import tokenize
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.jit._recursive import wrap_cpp_module

from robcert.errors import EvaluationError, first_line
from robcert.network.allowed_operators import is_pure
from robcert.network.detect import REEXPORT, damaged

_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]

_COPIED = re.compile(r"code/[\w./-]+\.py|constants\.pkl|data\.pkl|(constants|data)/\d{1,9}", re.ASCII)
_CLASS = re.compile(r"__torch__(\.[A-Za-z_]\w*)+", re.ASCII)
_QUANTIZED = re.compile(r"__torch__\.torch\.classes\.quantized\.(Linear|Conv[23]d)PackedParamsBase")
_MAKERS = {
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor", "torch._utils _rebuild_qtensor"),
    *(f"torch.jit._pickle {name}" for name in ("build_intlist", "build_tensorlist", "build_doublelist",
                                               "build_boollist", "restore_type_tag")),
    *("collections OrderedDict", "torch device", "torch per_tensor_affine", "torch per_channel_affine"),
}  # fmt: skip
"""What a pickle may name besides storages and classes: torch's reader of these pickles makes nothing else of them."""
_STORAGE = re.compile(r"torch [A-Z]\w+Storage", re.ASCII)
_OTHER_GLOBALS = {"INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}

_PRIM = {
    *("Constant", "GetAttr", "SetAttr", "CallMethod", "CallFunction", "CreateObject", "If", "Loop", "RaiseException"),
    *("ListConstruct", "ListUnpack", "TupleConstruct", "TupleUnpack", "TupleIndex", "TupleSlice", "DictConstruct"),
    *("NumToTensor", "ImplicitTensorToNum", "Uninitialized", "unchecked_cast", "unchecked_unwrap_optional"),
    *("device", "dtype", "layout", "shape", "requires_grad", "itemsize", "data"),
    *("min", "max", "abs", "isinstance", "rangelist", "tolist", "unchecked", "ConstantChunk", "Return", "Param"),
    *("type", "index", "StringIndex", "ModuleContainerIndex", "EnumName", "EnumValue", "HasAttr", "Enter", "Exit"),
    *("VarConcat", "VarStack", "id", "name", "grad", "T", "H", "mT", "mH", "real", "imag", "ndim", "numel"),
}
_LANGUAGE = {"torch", "ops", "CONSTANTS", "inf", "nan", "True", "False", "None"}


class _Unsafe(Exception):
    """Something that a network has no need of."""


def load_checked(path: Path) -> torch.jit.ScriptModule:
    """Return the network in a TorchScript archive, of which nothing was run before it was checked.

    Raises:
        EvaluationError: a pickle names something else, a default value is computed, or the code calls an operator that
            does more than compute; it is named. Or the archive is damaged.
    """
    try:
        reader = _C.PyTorchFileReader(str(path))
        members = {name: reader.get_record(name) for name in reader.get_all_records() if _COPIED.fullmatch(name)}
        version = int(reader.get_record("version"))
    except Exception as error:
        raise damaged(path, "a TorchScript archive", error) from None
    try:
        classes: list[str] = []
        for name in ("data.pkl", "constants.pkl"):
            _check_pickle(name, members.get(name, b""))
        for name, content in members.items():
            if name.endswith(".py"):
                classes += _check_source(name, content)
        _check_functions(_compiled(_without_objects(members, classes, version)))
    except _Unsafe as found:
        raise EvaluationError(f"{path} is TorchScript that {found}; it was not run", REEXPORT) from None
    unit: Any = _C.CompilationUnit()
    loaded = _C.import_ir_module_from_buffer(unit, _archive(members, version), torch.device("cpu"), {}, False)
    return wrap_cpp_module(loaded)


def _check_pickle(name: str, content: bytes) -> None:
    try:
        for code, argument, _ in pickletools.genops(content):
            if code.name in _OTHER_GLOBALS:
                raise _Unsafe(f"names Python objects in {name}")
            if code.name == "GLOBAL" and not _is_known(str(argument)):
                raise _Unsafe(f"names {str(argument)[:80].replace(' ', '.')} in {name}")
    except _Unsafe:
        raise
    except Exception:
        raise _Unsafe(f"has a damaged {name}") from None


def _is_known(name: str) -> bool:
    if name in _MAKERS or _STORAGE.fullmatch(name):
        return True
    dotted = name.replace(" ", ".")
    return _CLASS.fullmatch(dotted) is not None and (".classes." not in dotted or bool(_QUANTIZED.fullmatch(dotted)))


def _check_source(member: str, content: bytes) -> list[str]:
    """Return the classes that a member defines.

    Raises:
        _Unsafe: Python and torch may read it differently, or something in it is computed when it is read.
    """
    try:
        text = content.decode("ascii")
        if any(c != "\n" and not c.isprintable() for c in text):
            raise _Unsafe(f"has control characters in {member}")
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            plain = token.type != tokenize.STRING or (
                token.string[0] in "'\"" and token.string[:3] not in ('"""', "'''")
            )
            if token.type == tokenize.COMMENT or not plain:
                raise _Unsafe(f"is written as torch does not write it ({member})")
        tree = ast.parse(text)
    except (UnicodeDecodeError, SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError):
        raise _Unsafe(f"holds no code that torch writes ({member})") from None
    module = member.removeprefix("code/").removesuffix(".py").replace("/", ".")
    classes = [f"{module}.{node.name}" for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    if not all(_CLASS.fullmatch(name) for name in classes):
        raise _Unsafe(f"has a class without a name of torch's ({member})")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.AsyncFunctionDef):
            defaults = [one for one in (*node.args.defaults, *node.args.kw_defaults) if one is not None]
            decorated = [] if isinstance(node, ast.Lambda) else node.decorator_list
            if decorated or not all(_is_literal(one) for one in defaults):
                raise _Unsafe(f"computes a default value in {member}")
        if isinstance(node, ast.ClassDef):
            _check_class(node, member)
    return classes


def _check_class(node: ast.ClassDef, member: str) -> None:
    for line in node.body:
        if isinstance(line, ast.AnnAssign):
            fine = line.value is None or _is_literal(line.value)
        elif isinstance(line, ast.Assign):
            (target,) = line.targets[:1]
            named = isinstance(target, ast.Subscript)  # __annotations__["0"] = type
            fine = (named and _is_type(line.value)) or _is_literal(line.value)
        else:
            fine = isinstance(line, ast.FunctionDef | ast.Pass)
        if not fine:
            raise _Unsafe(f"computes something in a class of {member}")


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_literal(node.operand)
    if isinstance(node, ast.Tuple | ast.List):
        return all(_is_literal(one) for one in node.elts)
    if isinstance(node, ast.Call):  # a device
        plain = ast.unparse(node.func) == "torch.device" and not node.keywords
        return plain and all(isinstance(one, ast.Constant) for one in node.args)
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "CONSTANTS"
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id in _LANGUAGE)


def _is_type(node: ast.expr) -> bool:
    return not any(isinstance(one, ast.Call | ast.Lambda) for one in ast.walk(node))


def _without_objects(members: dict[str, bytes], classes: list[str], version: int) -> bytes:
    """An archive with the same code, whose only object has an empty place for each class: torch compiles them all."""
    kept = {name: content for name, content in members.items() if not name.startswith("data")}
    name = "robcert_check"
    while f"code/__torch__/{name}.py" in members:
        name += "_"
    fields = "".join(f"  c{number} : Optional[{one}]\n" for number, one in enumerate(classes))
    kept[f"code/__torch__/{name}.py"] = (
        f"class Holder(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n{fields}"
        f"  def forward(self: __torch__.{name}.Holder, x: Tensor) -> Tensor:\n    return x\n"
    ).encode()
    pickled = f"\x80\x02c__torch__.{name}\nHolder\n)\x81}}(".encode("latin-1") + _text("training") + b"\x89"
    kept["data.pkl"] = pickled + b"".join(_text(f"c{number}") + b"N" for number in range(len(classes))) + b"ub."
    return _archive(kept, version)


def _text(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def _archive(members: dict[str, bytes], version: int) -> bytes:
    buffer = io.BytesIO()
    writer = _C.PyTorchFileWriter(buffer)
    writer.set_min_version(version)
    for name, content in members.items():
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return buffer.getvalue()


def _compiled(archive: bytes) -> Any:
    """Return what torch compiles from the code; nothing of it is called."""
    unit: Any = _C.CompilationUnit()
    try:
        _C.import_ir_module_from_buffer(unit, archive, torch.device("cpu"), {}, False)
    except Exception as error:
        raise _Unsafe(f"torch cannot compile ({first_line(error)})") from None
    return unit


def _check_functions(unit: Any) -> None:
    for function in unit.get_functions():
        _check_block(function.graph, function.qualified_name if hasattr(function, "qualified_name") else function.name)


def _check_block(block: Any, where: str) -> None:
    for value in block.inputs():
        _check_type(value, where)
    for node in block.nodes():
        kind: str = node.kind()
        namespace, _, name = kind.partition("::")
        if namespace == "prim":
            if name not in _PRIM and re.fullmatch(r"is_\w+", name) is None:
                _refuse(kind, where)
        elif not _has_pure_schema(node):
            _refuse(kind, where)
        for value in node.outputs():
            _check_type(value, where)
        for attribute in node.attributeNames():
            if node.kindOf(attribute) in ("g", "gs"):
                _refuse(kind, where)
        for inner in node.blocks():
            _check_block(inner, where)


def _has_pure_schema(node: Any) -> bool:
    try:
        return is_pure(_C.parse_schema(node.schema()))
    except RuntimeError:
        return False


def _check_type(value: Any, where: str) -> None:
    kind = str(value.type().annotation_str)
    for found in re.findall(r"__torch__\.torch\.classes\.[\w.]+", kind):
        if not _QUANTIZED.fullmatch(found):
            raise _Unsafe(f"uses the class {found.removeprefix('__torch__.')} in {where}")
    if re.search(r"\b(Future|Await|RRef|PyObject|Stream|Generator|Storage|Capsule)\b", kind):
        raise _Unsafe(f"uses a value of type {kind[:80]} in {where}")


def _refuse(kind: str, where: str) -> NoReturn:
    space, _, name = kind.partition("::")
    called = f"torch.{name}" if space == "aten" else kind
    raise _Unsafe(f"calls {called} (in {where.removeprefix('__torch__.')})")
