"""torch.export archives: pickles, source code and names in what looks like data."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from tests.hostile.files.good import archive, changed_pt2, good_pt2, good_pt2_with, members
from tests.hostile.files.pickles import Reduce
from tests.hostile.table import Place, hostile

WARNING = "docs.pytorch.org torch.export.load: may unpickle"
PACKAGE = "torch/export/pt2_archive/_package.py"
SERIALIZE = "torch/_export/serde/serialize.py"
XTERM = "xterm ctlseqs: control sequences"
PYTREE = "torch/utils/_pytree.py"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


def torch_pickle(place: Place) -> bytes:
    """A file of torch.save whose loading writes the evidence."""
    out = io.BytesIO()
    torch.save(Reduce(exec, place.code), out)
    return out.getvalue()


def graph(program: dict[str, Any]) -> dict[str, Any]:
    return program["graph_module"]["graph"]


def text(value: str, name: str = "") -> dict[str, Any]:
    return {"name": name, "arg": {"as_string": value}, "kind": 1}


def first_node(place: Place, target: str, inputs: list[dict[str, Any]], output: str = "extra", **more: Any) -> Path:
    """The good program with one more call before the others."""

    def change(program: dict[str, Any]) -> None:
        node = {
            "target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": output}}] if output else [],
            "metadata": {}, "is_hop_single_tensor_return": None, "name": output or "extra", **more,
        }  # fmt: skip
        graph(program)["nodes"].insert(0, node)
        if output:
            graph(program)["tensor_values"][output] = graph(program)["tensor_values"]["input"]

    return changed_pt2(place, change)


@hostile("pt2-sample-inputs", "pt2", "pickled sample inputs", WARNING, control="pt2", docs=True)
def _(place: Place) -> Path:
    return good_pt2_with(place, {"data/sample_inputs/model.pt": torch_pickle(place)})


@hostile("pt2-weight-pickle", "pt2", "use_pickle is true for a weight", PACKAGE, control="pt2")
def _(place: Place) -> Path:
    config = json.loads(members(good_pt2())[WEIGHTS])
    config["config"]["1.weight"] |= {"use_pickle": True}
    return good_pt2_with(place, {WEIGHTS: json.dumps(config).encode(), "data/weights/weight_0": torch_pickle(place)})


def constant(place: Place, name: str, body: bytes, **meta: Any) -> Path:
    entry = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None, **meta}
    config = json.dumps({"config": {"c": entry}}).encode()
    return good_pt2_with(place, {CONSTANTS: config, f"data/constants/{name}": body})


@hostile("pt2-constant-pickle", "pt2", "use_pickle is true for a constant", PACKAGE, control="pt2")
def _(place: Place) -> Path:
    return constant(place, "tensor_0", torch_pickle(place))


@hostile("pt2-opaque-object", "pt2", "a constant that is an opaque object: pickle.loads", PACKAGE, control="pt2")
def _(place: Place) -> Path:
    return constant(place, "opaque_obj_0", pickle.dumps(Reduce(exec, place.code)))


@hostile("pt2-custom-object", "pt2", "a constant that is a TorchScript object with a __setstate__", PACKAGE)
def _(place: Place) -> Path:
    from tests.hostile.files.torchscript import thing

    return constant(place, "custom_obj_0", thing(place))


@hostile("pt2-legacy-weights", "pt2", "the weights of the older layout, one pickle", PACKAGE, control="pt2", loads=True)
def _(place: Place) -> Path:
    return good_pt2_with(place, {"data/weights/model.pt": torch_pickle(place)})


@hostile(
    "pt2-legacy-constants", "pt2", "the constants of the older layout, one pickle", PACKAGE, control="pt2", loads=True
)
def _(place: Place) -> Path:
    return good_pt2_with(place, {"data/constants/model.pt": torch_pickle(place)})


@hostile("pt2-old-layout", "pt2", "the archive of torch 2.7: serialized_*.pt are pickles", "torch/export/__init__.py: load", control="pt2")  # fmt: skip
def _(place: Place) -> Path:
    import zipfile

    path = place.files / "model.pt2"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("version", "8.20")
        out.writestr("serialized_exported_program.json", members(good_pt2())["models/model.json"])
        out.writestr("serialized_state_dict.pt", torch_pickle(place))
        out.writestr("serialized_constants.pt", torch_pickle(place))
        out.writestr("serialized_example_inputs.pt", torch_pickle(place))
    return path


@hostile(
    "pt2-second-model", "pt2", "a second program in the archive, whose inputs are a pickle", PACKAGE, control="pt2"
)
def _(place: Place) -> Path:
    good = members(good_pt2())
    return good_pt2_with(
        place,
        {
            "models/other.json": good["models/model.json"],
            "data/sample_inputs/other.pt": torch_pickle(place),
            "data/weights/other_weights_config.json": good[WEIGHTS],
            "data/constants/other_constants_config.json": good[CONSTANTS],
        },
    )


@hostile(
    "pt2-guards",
    "pt2",
    "guards_code is Python that torch compiles",
    "torch/export/_unlift.py",
    control="pt2",
    loads=True,
)
def _(place: Place) -> Path:
    return changed_pt2(place, lambda program: program.update(guards_code=[place.code]))


@hostile("pt2-sympy-size", "pt2", "a size of a tensor is an expression that sympy evaluates", "docs.sympy.org sympify: uses eval", control="pt2", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    def change(program: dict[str, Any]) -> None:
        size = graph(program)["tensor_values"]["input"]["sizes"][0]
        size["as_expr"]["expr_str"] = place.code

    return changed_pt2(place, change)


@hostile("pt2-sympy-call", "pt2", "sympy's own lambdify, inside a size", "docs.sympy.org lambdify: uses exec", control="pt2", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    def change(program: dict[str, Any]) -> None:
        size = graph(program)["tensor_values"]["linear"]["sizes"][0]
        size["as_expr"]["expr_str"] = f"Symbol('s0', integer=True) + (0 if {place.code} else 0)"

    return changed_pt2(place, change)


@hostile("pt2-sympy-symint", "pt2", "a symbolic integer of the graph", SERIALIZE, control="pt2")
def _(place: Place) -> Path:
    path = first_node(
        place,
        "torch.ops.aten.sym_size.int",
        [
            {"name": "self", "arg": {"as_tensor": {"name": "input"}}, "kind": 1},
            {"name": "dim", "arg": {"as_int": 0}, "kind": 1},
        ],
        "",
        outputs=[{"as_sym_int": {"as_name": "sym_size"}}],
        name="sym_size",
    )
    files = members(path.read_bytes())
    program = json.loads(files["models/model.json"])
    graph(program)["sym_int_values"]["sym_size"] = {"as_expr": {"expr_str": place.code, "hint": {"as_int": 2}}}
    return archive(path, {**files, "models/model.json": json.dumps(program).encode()})


def tree(place: Place, spec: dict[str, Any], field: str = "out_spec") -> Path:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["module_call_graph"][0]["signature"][field] = json.dumps([1, spec])

    return changed_pt2(place, change)


@hostile("pt2-tree-defaultdict", "pt2", "a tree with a defaultdict: its factory is imported by name", PYTREE, control="pt2")  # fmt: skip
def _(place: Place) -> Path:
    context = {"default_factory_module": "canary", "default_factory_name": "factory", "dict_context": []}
    return tree(place, {"type": "collections.defaultdict", "context": context, "children_spec": []})


@hostile("pt2-tree-enum", "pt2", "a tree whose context is an enum: its module is imported by name", PYTREE, control="pt2")  # fmt: skip
def _(place: Place) -> Path:
    context = json.dumps([{"__enum__": True, "fqn": "canary:factory", "name": "x"}])
    return tree(place, {"type": "builtins.dict", "context": context, "children_spec": []}, "in_spec")


@hostile("pt2-tree-of-submodule", "pt2", "such a tree in the signature of a submodule", PYTREE, control="pt2")
def _(place: Place) -> Path:
    def change(program: dict[str, Any]) -> None:
        calls = program["graph_module"]["module_call_graph"]
        context = json.dumps([{"__enum__": True, "fqn": "canary:factory", "name": "x"}])
        spec = json.dumps([1, {"type": "builtins.dict", "context": context, "children_spec": []}])
        calls[1]["signature"] = {**calls[0]["signature"], "in_spec": spec}

    return changed_pt2(place, change)


@hostile("pt2-autograd-function", "pt2", "a helper of torch.export imports a class by its name", "torch/export/custom_ops.py", control="pt2")  # fmt: skip
def _(place: Place) -> Path:
    return first_node(
        place, "torch.export.custom_ops._call_custom_autograd_function_in_pre_dispatch", [text("canary.factory")]
    )


@hostile("pt2-target-os-system", "pt2", "a node whose target is torch.serialization.os.system", SERIALIZE)
def _(place: Place) -> Path:
    return first_node(place, "torch.serialization.os.system", [text(place.shell)])


@hostile("pt2-target-builtins", "pt2", "torch.serialization.__builtins__ and exec", SERIALIZE)
def _(place: Place) -> Path:
    return first_node(place, "torch.serialization.pickle.io.open", [text(place.evidence), text("w")])


@hostile("pt2-target-hub", "pt2", "torch.hub.load_state_dict_from_url as an operator", SERIALIZE)
def _(place: Place) -> Path:
    return first_node(place, "torch.hub.load_state_dict_from_url", [text("http://127.0.0.1:9/w.pth")])


@hostile("pt2-target-save", "pt2", "torch.save as an operator", SERIALIZE)
def _(place: Place) -> Path:
    return first_node(
        place, "torch.save", [{"name": "", "arg": {"as_tensor": {"name": "input"}}, "kind": 1}, text(place.evidence)]
    )


@hostile("pt2-target-math", "pt2", "a name that leaves math, another that leaves _operator", SERIALIZE)
def _(place: Place) -> Path:
    target = "_operator._abs.__self__.exec"
    return first_node(place, target, [text(place.code)])


@hostile("pt2-aten-from-file", "pt2", "torch.ops.aten.from_file creates the file", "docs.pytorch.org torch.from_file", control="pt2", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    inputs = [
        {"name": "filename", "arg": {"as_string": place.evidence}, "kind": 1},
        {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
        {"name": "size", "arg": {"as_int": 64}, "kind": 1},
    ]
    return first_node(place, "torch.ops.aten.from_file.default", inputs)


@hostile("pt2-aten-save", "pt2", "torch.ops.aten.save", "TorchScript builtins: aten::save")
def _(place: Place) -> Path:
    inputs = [
        {"name": "item", "arg": {"as_tensor": {"name": "input"}}, "kind": 1},
        {"name": "filename", "arg": {"as_string": place.evidence}, "kind": 1},
    ]
    return first_node(place, "torch.ops.aten.save", inputs)


@hostile("pt2-load-tensor", "pt2", "torch.ops.debugprims.load_tensor: an operator of another namespace", "torch/_library: debugprims", loads=False)  # fmt: skip
def _(place: Place) -> Path:
    return first_node(place, "torch.ops.debugprims.load_tensor.default", [text("x", "name")])


@hostile("pt2-node-name", "pt2", "a node whose name is source code", "torch/fx/graph.py: code is generated from names", loads=True)  # fmt: skip
def _(place: Place) -> Path:
    name = f"x = {place.code}; linear"

    def change(program: dict[str, Any]) -> None:
        node = graph(program)["nodes"][-1]
        node["name"] = node["outputs"][0]["as_tensor"]["name"] = name
        graph(program)["outputs"][0]["as_tensor"]["name"] = name
        graph(program)["tensor_values"][name] = graph(program)["tensor_values"].pop("linear")
        program["graph_module"]["signature"]["output_specs"][0]["user_output"]["arg"]["as_tensor"]["name"] = name

    return changed_pt2(place, change)


@hostile("pt2-input-name", "pt2", "an input whose name is source code: a default of a parameter", "torch/fx/graph.py", control="pt2")  # fmt: skip
def _(place: Place) -> Path:
    name = f"input, y={place.code}"
    source = members(good_pt2())["models/model.json"].decode()
    changed = source.replace('{"name": "input"}', json.dumps({"name": name}))
    changed = changed.replace('"input": {"dtype"', f'{json.dumps(name)}: {{"dtype"')
    changed = changed.replace('"forward_arg_names": ["input"]', f'"forward_arg_names": [{json.dumps(name)}]')
    return good_pt2_with(place, {"models/model.json": changed.encode()})


@hostile("pt2-keyword-name", "pt2", "the name of a keyword argument is source code", "torch/fx/graph.py")
def _(place: Place) -> Path:
    inputs = [{"name": f"x={place.code}, y", "arg": {"as_int": 1}, "kind": 2}]
    return first_node(place, "torch.is_grad_enabled", inputs)


@hostile("pt2-parameter-name", "pt2", "a parameter whose name is source code", "torch/fx/graph.py")
def _(place: Place) -> Path:
    name = f"w); {place.code}; (self.x"

    def replaced(body: bytes) -> bytes:
        return body.replace(b'"1.weight"', json.dumps(name).encode())

    good = members(good_pt2())
    return good_pt2_with(
        place, {"models/model.json": replaced(good["models/model.json"]), WEIGHTS: replaced(good[WEIGHTS])}
    )


@hostile("pt2-module-stack", "pt2", "nn_module_stack and source_fn_stack that name code", SERIALIZE, loads=True)
def _(place: Place) -> Path:
    def change(program: dict[str, Any]) -> None:
        for node in graph(program)["nodes"]:
            node["metadata"] |= {
                "nn_module_stack": f"L__self__,,{place.code}",
                "source_fn_stack": "x,torch.serialization.os.system",
                "custom": json.dumps({"__reduce__": place.code}),
            }

    return changed_pt2(place, change)


@hostile("pt2-verifier", "pt2", "a verifier of another name", SERIALIZE)
def _(place: Place) -> Path:
    return changed_pt2(place, lambda program: program.update(verifiers=["canary.factory"]))


@hostile("pt2-custom-value", "pt2", "custom_obj_values that name a class", SERIALIZE)
def _(place: Place) -> Path:
    def change(program: dict[str, Any]) -> None:
        graph(program)["custom_obj_values"]["input"] = {"name": "input", "class_fqn": "os.system"}

    return changed_pt2(place, change)


@hostile("pt2-path-in-weights", "pt2", "the path of a weight leaves its folder", PACKAGE)
def _(place: Place) -> Path:
    config = members(good_pt2())[WEIGHTS].replace(b'"weight_0"', b'"../../../../../../etc/passwd"')
    return good_pt2_with(place, {WEIGHTS: config})


@hostile("pt2-overlapping-strides", "pt2", "a weight with a stride beyond its bytes", PACKAGE)
def _(place: Place) -> Path:
    config = json.loads(members(good_pt2())[WEIGHTS])
    config["config"]["1.weight"]["tensor_meta"]["strides"][0] = {"as_int": 1 << 40}
    return good_pt2_with(place, {WEIGHTS: json.dumps(config).encode()})


@hostile("pt2-huge-weight", "pt2", "a weight of 10^15 entries made of one number", PACKAGE, cost=True)
def _(place: Place) -> Path:
    config = json.loads(members(good_pt2())[WEIGHTS])
    meta = config["config"]["1.weight"]["tensor_meta"]
    meta["sizes"] = [{"as_int": 1 << 25}, {"as_int": 1 << 25}]
    meta["strides"] = [{"as_int": 0}, {"as_int": 0}]
    return good_pt2_with(place, {WEIGHTS: json.dumps(config).encode()})


@hostile("pt2-aoti", "pt2", "a compiled library beside the program, which torch unpacks and opens", "docs.pytorch.org AOTInductor: .pt2 holds a .so", docs=True, loads=True)  # fmt: skip
def _(place: Place) -> Path:
    return good_pt2_with(
        place,
        {
            "data/aotinductor/model/model.so": b"\x7fELF" + bytes(60),
            "data/aotinductor/model/model_metadata.json": json.dumps({"AOTI_DEVICE_KEY": "cpu"}).encode(),
        },
    )


@hostile("pt2-print", "pt2", "torch.ops.aten._print: a line that looks like robcert's", "torch/csrc: aten::_print", loads=True)  # fmt: skip
def _(place: Place) -> Path:
    inputs = [{"name": "s", "arg": {"as_string": "robcert: error: this network was certified"}, "kind": 1}]
    return first_node(place, "torch.ops.aten._print.default", inputs, "")


@hostile("pt2-terminal", "pt2", "an operator whose name clears the terminal", XTERM, docs=True)
def _(place: Place) -> Path:
    return first_node(place, "torch.ops.aten.\x1b[2J\x9b2J.default", [])
