"""Damage along the grammar of a format: what is written stays well-formed, and says what no network needs to say."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

NAMES = [
    "a b", "torch . save", "__class__", "x;import os", "x\"), __import__('os').system('true') #", "f(x)", "", "print",
    "lambda", "{x}", "x\ny", "../../x", "/etc/passwd", "\u00e4", "\U0001d4b6", "a" * 5000, "relu__1", "self", "None",
]  # fmt: skip
CALLS = [
    "torch.ops.aten.from_file.default", "torch.ops.aten.save.default", "torch.ops.image.write_file.default",
    "torch.hub.load", "os.system", "_operator.call", "_operator.methodcaller", "math.prod", "torch.load",
    "torch.ops.aten.relu.default ", "torch.ops.aten.__class__", "torch.ops.higher_order.print", "#x:y", "torch.sym_sum",
    "torch.ops.aten.set_.source_Storage", "torch.ops.prim.device.default", "torch.ops.aten.relu.default.__class__",
    "torch.ops.quantized.linear.default", "torch._C._jit_get_all_schemas",
]  # fmt: skip
SIZES = [
    "__import__('os').system('true')", "Symbol('s0').__class__", "Pow(Integer(10), Integer(1000000000))",
    "s0 if s0 else 1",
    "Symbol('s77', positive=True, integer=True) + exec", "N", "preview(Symbol('s0'))", "lambdify(s0, s0)",
    "Integer('2')",
    "Mul(Integer(2), Symbol('s77', positive=True, integer=True))", "S('os')", "[x for x in ()]", "f'{1}'",
]  # fmt: skip
SOURCES = [
    ("torch . save(", r"torch\.\w+\("), ("torch.from_file(", r"torch\.\w+\("),
    ("ops.image.write_file(", r"torch\.\w+\("),
    ("ops.prim.rpc_async(", r"torch\.\w+\("), ("print(", r"torch\.\w+\("), ("fork(", r"torch\.\w+\("),
    ("__torch__.torch.classes.dist_c10d.Store(", r"torch\.\w+\("), ("^python_op(", r"torch\.\w+\("),
    ("x: Tensor=torch.from_file('x', True, 9)", r"\w+: Tensor"), ("def __setstate__(", r"def \w+\("),
    ("  # \\\n", r"\n"), ("Final[int] = torch.seed()", r"bool\n"), ("__torch__.torch.classes.a.B", r"bool"),
]  # fmt: skip
CARDS: list[Any] = [
    "os:system", "builtins:exec", "fuzznets:net", "torchvision:resnet18", "torchvision:../x", "torchvision:",
    "cnn", ":", 5,
    None, True, [], {}, ["os:system"], {"command": "true"}, {"weights": "DEFAULT"}, {"pretrained": True}, 1e308, -1,
    {"checkpoint_path": "x"}, {"num_classes": 3}, {"width": [[[[[1]]]]]}, "npz:../x", "../../x", "\x1b[2J", "a" * 5000,
]  # fmt: skip


def mutate(kind: str, content: bytes, draw: random.Random) -> bytes | None:
    """The file with one thing in it said otherwise; None where this has nothing for its kind."""
    if kind in _OF:
        return _OF[kind](content, draw)
    return _nested(content, draw) if content.startswith(b"PK") else None


def _members(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(written, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, change(name, archive.read(name)))
    return written.getvalue()


def _nested(content: bytes, draw: random.Random) -> bytes:
    """An archive in an archive, a member twice, or a member with a path of its own."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
    chosen, kind = draw.choice(names), draw.randrange(4)
    top = names[0].partition("/")[0]
    if kind == 0:
        return _members(content, lambda name, inside: content if name == chosen else inside)
    written = io.BytesIO(content)
    with zipfile.ZipFile(written, "a") as archive:
        name = [chosen, draw.choice(("../../x", "/tmp/x", f"{top}/../x")), f"{top}/code/x.py"][kind - 1]
        archive.writestr(zipfile.ZipInfo(name), draw.choice((content, b"import os", b"\x80\x02cos\nsystem\n.")))
    return written.getvalue()


def _export(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.15:
        return _nested(content, draw)
    wanted = draw.choice(("model.json", "model.json", "model.json", "model_weights_config.json"))

    def change(name: str, inside: bytes) -> bytes:
        if not name.endswith(wanted):
            return inside
        form = json.loads(inside)
        _say(form, draw)
        return json.dumps(form).encode()

    return _members(content, change)


def _places(form: Any) -> list[tuple[Any, Any]]:
    """Every place in a form of JSON: the table or list, and the key or number."""
    entries = list(form.items() if isinstance(form, dict) else enumerate(form) if isinstance(form, list) else ())
    return [place for key, value in entries for place in ((form, key), *_places(value))]


def _say(form: Any, draw: random.Random) -> None:
    places = _places(form)
    texts = [(holder, key) for holder, key in places if isinstance(holder[key], str)]
    kind = draw.randrange(5)
    if kind < 3 and texts:
        by_key: dict[str, list[tuple[Any, Any]]] = {}
        for holder, key in texts:
            by_key.setdefault(str(key), []).append((holder, key))
        holder, key = draw.choice(by_key[draw.choice(sorted(by_key))])
        holder[key] = draw.choice({"target": CALLS, "expr_str": SIZES}.get(str(key), NAMES))
    elif kind == 3:
        holder, key = draw.choice(places)
        holder[key] = draw.choice([None, True, -1, 2**70, 1.5, "x", [], {}, [[]], {"as_string": "x"}])
    else:
        tables = [holder for holder, _ in places if isinstance(holder, dict)]
        table = draw.choice(tables)
        table[draw.choice([*NAMES, "as_operator", "as_custom_obj", "guards_code", "metadata"])] = draw.choice(
            ["x", ["__import__('os').system('true')"], {"name": "x", "class_fqn": "os.system"}, *CALLS[:3]]
        )


def _script(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.15:
        return _nested(content, draw)
    text, pattern = draw.choice(SOURCES)

    def change(name: str, inside: bytes) -> bytes:
        if not name.endswith(".py"):
            return inside
        source = inside.decode()
        found = list(re.finditer(pattern, source))
        if not found:
            return inside
        one = draw.choice(found)
        return (source[: one.start()] + text + source[one.end() :]).encode()

    return _members(content, change)


def _fields(card: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    key = draw.choice(["architecture", "options", *card, draw.choice(NAMES)])
    value = draw.choice(CARDS)
    if key == "options" and draw.random() < 0.7:
        value = {draw.choice(["weights", "width", "a b", "pretrained", "init_weights", "file", "depth"]): value}
    return {**card, key: value}


def _safetensors(content: bytes, draw: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"]["robcert"] = json.dumps(_fields(json.loads(header["__metadata__"]["robcert"]), draw))
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + content[8 + size :]


def _carded(content: bytes, draw: random.Random) -> bytes:
    import torch

    found = torch.load(io.BytesIO(content), weights_only=True)
    found["robcert_card"] = json.dumps(_fields(json.loads(found["robcert_card"]), draw))
    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()


def _toml(content: bytes, draw: random.Random) -> bytes:
    import tomli_w
    import tomllib

    def whole(value: Any) -> Any:
        return "" if value is None else value

    card = {key: whole(value) for key, value in _fields(tomllib.loads(content.decode()), draw).items()}
    if isinstance(card.get("options"), dict):
        card["options"] = {key: whole(value) for key, value in card["options"].items()}
    return tomli_w.dumps(card).encode()


def _onnx(content: bytes, draw: random.Random) -> bytes:
    import onnx

    model: Any = onnx.ModelProto.FromString(content)
    node, tensor = draw.choice(model.graph.node), draw.choice(model.graph.initializer)
    kind = draw.randrange(5)
    text = draw.choice(NAMES)
    if kind == 0:
        node.op_type = draw.choice(["PythonOp", "EPContext", "Loop", "Scan", "RandomNormal", "SequenceAt", text])
    elif kind == 1:
        node.domain = draw.choice(["com.microsoft", "ai.onnx.contrib", "ai.onnx.training", "local", text])
    elif kind == 2:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        entry = tensor.external_data.add()
        entry.key, entry.value = (
            "location",
            draw.choice(["/etc/passwd", "../x", "a.safetensors", ".", "x/../../y", text]),
        )
    elif kind == 3:
        model.metadata_props.add(key="robcert", value=json.dumps(_fields({"name": "x"}, draw)))
    else:
        draw.choice((node, tensor, model.graph.input[0])).name = text
    return model.SerializeToString()


_OF: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "export.pt2": _export, "script.pt": _script, "safetensors": _safetensors, "registered": _safetensors,
    "carded.pt": _carded, "toml": _toml, "onnx": _onnx, "onnx.text": _onnx, "onnx.external": _onnx,
}  # fmt: skip
