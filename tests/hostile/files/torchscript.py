"""TorchScript whose code writes files: in forward, on loading, in what is called by neither name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tests.hostile.files.good import archive, card, good_script, members
from tests.hostile.files.scripted import Behind, Forks, Holder, SetState, Thing, Unused, hooked
from tests.hostile.table import ATTACK, Place, hostile

SAVE = "docs.pytorch.org TorchScript builtins: torch.save"
FROM_FILE = "docs.pytorch.org torch.from_file: shared=True creates the file"
LANGUAGE = "docs.pytorch.org TorchScript language reference"
TOP = "code/__torch__/torch/nn/modules/container.py"
BODY = """class Sequential(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  __annotations__["0"] = __torch__.torch.nn.modules.flatten.Flatten
  __annotations__["1"] = __torch__.torch.nn.modules.linear.Linear
  def forward(self: __torch__.torch.nn.modules.container.Sequential,
    input: Tensor) -> Tensor:
    _0 = getattr(self, "0")
    _1 = getattr(self, "1")
{before}    input0 = (_0).forward(input, )
    output = (_1).forward(input0, )
{after}    return output
{rest}"""


def script(place: Place, before: str = "", after: str = "", rest: str = "", head: str = "", **more: bytes) -> Path:
    """The good network with statements in its forward, methods after it, and code before its class."""
    indented = [("".join(f"    {line}\n" for line in part.splitlines())) for part in (before, after)]
    source = head + BODY.format(before=indented[0], after=indented[1], rest=rest)
    return archive(place.files / "model.pt", {**members(good_script()), TOP: source.encode(), **more}, "model")


def scripted(place: Place, net: nn.Module) -> Path:
    path = place.files / "model.pt"
    torch.jit.save(torch.jit.script(net.eval()), path)
    return path


def holding(files: dict[str, bytes], part: bytes) -> str:
    """The name of the source that has this part."""
    return next(one for one in files if part in files[one] and one.endswith(".py"))


def quoted(place: Place) -> str:
    return f'"{place.evidence}"'


@hostile("script-save", "torchscript", "torch.save in forward", SAVE, control="jit", docs=True)
def _(place: Place) -> Path:
    return script(place, f"torch.save(input, {quoted(place)})")


@hostile("script-save-spaces", "torchscript", "torch . save, with spaces", SAVE, control="jit", docs=True)
def _(place: Place) -> Path:
    return script(place, f"torch . save (input, {quoted(place)})")


@hostile("script-save-tabs", "torchscript", "torch, tab, dot, tab, save", SAVE, control="jit")
def _(place: Place) -> Path:
    return script(place, f"torch\t.\tsave\t(input, {quoted(place)})")


@hostile("script-save-parenthesis", "torchscript", "the name over several lines, inside a bracket", SAVE, control="jit")
def _(place: Place) -> Path:
    return script(place, f"_2 = [(torch\n  .save(input,\n {quoted(place)}))]")


@hostile("script-ops", "torchscript", "ops.aten.save", "docs.pytorch.org torch.ops", control="jit", docs=True)
def _(place: Place) -> Path:
    return script(place, f"ops.aten.save(input, {quoted(place)})")


@hostile("script-ops-spaces", "torchscript", "ops . aten . save", "docs.pytorch.org torch.ops", control="jit")
def _(place: Place) -> Path:
    return script(place, f"ops . aten . save(input, {quoted(place)})")


@hostile("script-from-file", "torchscript", "torch.from_file, mapped, then filled", FROM_FILE, control="jit", docs=True)
def _(place: Place) -> Path:
    call = f"_2 = torch.from_file({quoted(place)}, True, 64, dtype=0)\n_3 = torch.fill_(_2, 65)"
    return script(place, call, "output = torch.add(output, torch.sum(_3), alpha=0)")


@hostile("script-ops-from-file", "torchscript", "ops.aten.from_file", FROM_FILE, control="jit")
def _(place: Place) -> Path:
    call = f"_2 = ops.aten.from_file({quoted(place)}, True, 64, dtype=0, layout=None, device=None, pin_memory=None)"
    return script(place, call, "output = torch.add(output, torch.sum(_2), alpha=0)")


@hostile("script-setstate", "torchscript", "__setstate__ of the module: on loading, before any check of a graph", "docs.pytorch.org torch.jit.export, __setstate__", control="jit", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return scripted(place, SetState(place.evidence))


@hostile("script-setstate-submodule", "torchscript", "__setstate__ of a submodule that forward never calls", "docs.pytorch.org torch.jit.export", control="jit")  # fmt: skip
def _(place: Place) -> Path:
    return scripted(place, nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Unused(SetState(place.evidence))))


@hostile("script-setstate-function", "torchscript", "__setstate__ calls a function of code/, which saves", LANGUAGE, control="jit")  # fmt: skip
def _(place: Place) -> Path:
    path = scripted(place, SetState(place.evidence))
    files = members(path.read_bytes())
    name = holding(files, b"torch.save(")
    files[name] = files[name].replace(b"torch.save(", b"__torch__.helper.keep(")
    files["code/__torch__/helper.py"] = (
        b"def keep(t: Tensor,\n    name: str) -> NoneType:\n  torch . save(t, name)\n  return None\n"
    )
    return archive(path, files, "model")


@hostile("script-attribute-class", "torchscript", "an attribute of a scripted class with a __setstate__", "docs.pytorch.org TorchScript classes", control="jit", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    net = Holder(Thing(torch.zeros(1), ""))
    path = scripted(place, net)
    files = members(path.read_bytes())
    name = holding(files, b"PLACE")
    files[name] = files[name].replace(b"PLACE", place.evidence.encode())
    return archive(path, files, "model")


@hostile("script-submodule", "torchscript", "saved by the forward of a submodule", SAVE, control="jit")
def _(place: Place) -> Path:
    path = script(place)
    files = members(path.read_bytes())
    name = "code/__torch__/torch/nn/modules/flatten.py"
    body = files[name].decode()
    line = next(one for one in body.splitlines() if "return" in one)
    files[name] = body.replace(line, f"    torch.save(input, {quoted(place)})\n{line}").encode()
    return archive(path, files, "model")


@hostile("script-method", "torchscript", "saved by a method that forward calls", LANGUAGE, control="jit")
def _(place: Place) -> Path:
    method = (
        "  def helper(self: __torch__.torch.nn.modules.container.Sequential,\n    input: Tensor) -> Tensor:\n"
        f"    torch.save(input, {quoted(place)})\n    return input\n"
    )
    return script(place, "input = (self).helper(input, )", rest=method)


@hostile("script-function", "torchscript", "saved by a function in another file of code/", LANGUAGE, control="jit", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    body = f"def f(input: Tensor) -> Tensor:\n  torch.save(input, {quoted(place)})\n  return input\n"
    return script(place, "input = __torch__.___other___.f(input, )", **{"code/__torch__/___other___.py": body.encode()})


@hostile("script-alias", "torchscript", "the name of the file is put together while it runs", LANGUAGE, control="jit")
def _(place: Place) -> Path:
    half = len(place.evidence) // 2
    first, second = place.evidence[:half], place.evidence[half:]
    return script(place, f'_2 = torch.add("{first}", "{second}")\ntorch.save(input, _2)')


@hostile("script-branch", "torchscript", "only where exactly 7 images come", LANGUAGE, control="jit", argv=ATTACK)  # fmt: skip
def _(place: Place) -> Path:
    return script(place, f"if torch.eq(torch.size(input, 0), 7):\n  torch.save(input, {quoted(place)})\nelse:\n  pass")


@hostile("script-training", "torchscript", "only in training mode", LANGUAGE, control="jit_training", argv=ATTACK)  # fmt: skip
def _(place: Place) -> Path:
    return script(place, f"if self.training:\n  torch.save(input, {quoted(place)})\nelse:\n  pass")


@hostile("script-loop", "torchscript", "saved in the body of a loop", LANGUAGE, control="jit")
def _(place: Place) -> Path:
    return script(place, f"for i in range(1):\n  torch.save(input, {quoted(place)})")


@hostile("script-fork", "torchscript", "saved in a task of torch.jit.fork", "docs.pytorch.org torch.jit.fork", control="jit", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return scripted(place, Forks(place.evidence))


@hostile("script-hook", "torchscript", "saved by a forward hook", "docs.pytorch.org TorchScript: hooks", control="jit", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    path = scripted(place, hooked())
    files = members(path.read_bytes())
    name = holding(files, b"PLACE")
    files[name] = files[name].replace(b"PLACE", place.evidence.encode())
    return archive(path, files, "model")


@hostile("script-interface", "torchscript", "saved behind an interface type", "docs.pytorch.org torch.jit.interface", control="jit", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    path = scripted(place, Behind())
    files = members(path.read_bytes())
    name = holding(files, b"PLACE")
    files[name] = files[name].replace(b"PLACE", place.evidence.encode())
    return archive(path, files, "model")


@hostile("script-renamed", "torchscript", "called model.onnx", SAVE, control="jit")
def _(place: Place) -> Path:
    path = script(place, f"torch.save(input, {quoted(place)})")
    return path.rename(place.files / "model.onnx")


@hostile("script-card", "torchscript", "an extra file with a card that names a module", "docs.pytorch.org torch.jit.save: _extra_files", control="old_card", loads=True)  # fmt: skip
def _(place: Place) -> Path:
    import json

    found = json.dumps(card(architecture="canary:factory", options={})).encode()
    return script(place, **{"extra/robcert.json": found})


@hostile(
    "script-python-pickle",
    "torchscript",
    "data.pkl with a Python global in it",
    "torch/csrc/jit: unpickler",
    loads=False,
)
def _(place: Place) -> Path:
    body = b"\x80\x02cos\nsystem\nX" + len(place.shell).to_bytes(4, "little") + place.shell.encode() + b"\x85R."
    return script(place, **{"data.pkl": body})


@hostile("script-debug-pickle", "torchscript", "a pickle among the debug files that is a call", "torch/csrc/jit: debug_pkl", loads=True)  # fmt: skip
def _(place: Place) -> Path:
    body = b"\x80\x02cos\nsystem\nX" + len(place.shell).to_bytes(4, "little") + place.shell.encode() + b"\x85R."
    return script(place, **{f"{TOP}.debug_pkl": body})


@hostile("script-print", "torchscript", "prints lines that look like robcert's", LANGUAGE, loads=True, docs=True)
def _(place: Place) -> Path:
    return script(place, 'print("robcert: error: this network was certified")')


@hostile("script-endless", "torchscript", "a loop that never ends", LANGUAGE, cost=True, docs=True, seconds=3)
def _(place: Place) -> Path:
    return script(place, "_2 = True\nwhile _2:\n  input = torch.relu(input)")


@hostile("script-memory", "torchscript", "asks for a petabyte", LANGUAGE, cost=True)
def _(place: Place) -> Path:
    call = "_2 = torch.zeros([1125899906842624], dtype=None, layout=None, device=None, pin_memory=None)"
    return script(place, call, "output = torch.add(output, torch.sum(_2))")


@hostile("script-recursion", "torchscript", "expressions nested 20,000 deep", LANGUAGE, cost=True)
def _(place: Place) -> Path:
    return script(place, "_2 = " + "(" * 20_000 + "1" + ")" * 20_000)


def thing(place: Place) -> bytes:
    """A TorchScript object as torch pickles it: loading it calls its __setstate__."""
    files = members(scripted(place, Holder(Thing(torch.zeros(1), ""))).read_bytes())
    name = holding(files, b"PLACE")
    files[name] = files[name].replace(b"PLACE", place.evidence.encode())
    return archive(place.files / "object.pt", files, "archive").read_bytes()


SPOOF = "robcert: error: this network was certified"


@hostile("script-warn", "torchscript", "a warning that looks like a line of robcert's", LANGUAGE, loads=True, docs=True)
def _(place: Place) -> Path:
    return script(place, f'torch.warn("{SPOOF}", 2)')


@hostile("script-raise", "torchscript", "an exception whose text clears the terminal and goes on in robcert's words", LANGUAGE, docs=True)  # fmt: skip
def _(place: Place) -> Path:
    text = 'torch.add(torch.add(chr(27), "[2J"), torch.add(chr(13), "robcert: note: all is well"))'
    return script(place, f'_2 = {text}\nops.prim.RaiseException(_2, "builtins.Exception")')
