"""The texts of a torch.export archive that torch evaluates: sizes as sympy writes them, and trees of inputs.

``sympify`` is ``eval`` over everything that sympy exports, so an expression is parsed here first, and only calls of
sympy's own constructors over symbols and small numbers get through. A tree names Python types, which are looked up by
name, and its context may name a module to import, so only the built-in containers with plain keys get through.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

_LONGEST = 4000
_LARGEST = 2**63
_SYMBOL = re.compile(r"[a-z]{1,5}\d{1,18}", re.ASCII)
_FUNCTIONS = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Mod", "PythonMod", "Max", "Min", "Abs", "FloorDiv"),
    *("CleanDiv", "CeilDiv", "ModularIndexing", "Where", "CeilToInt", "FloorToInt", "TruncToInt", "TruncToFloat"),
    *("RoundToInt", "RoundDecimal", "ToFloat", "Identity", "IntTrueDiv", "FloatTrueDiv", "floor", "ceiling"),
    *("Equality", "Unequality", "StrictLessThan", "StrictGreaterThan", "LessThan", "GreaterThan", "Eq", "Ne"),
    *("Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Piecewise", "ExprCondPair"),
    *("IsNonOverlappingAndDenseIndicator"),
}
_POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift", "RShift"}
_FACTS = {"integer", "positive", "nonnegative", "real", "finite", "precision", "evaluate"}
_CONSTANTS = {"true", "false", "oo", "int_oo"}
_SEQUENCES = {"builtins.tuple", "builtins.list", "torch.fx.immutable_collections.immutable_list"}
_MAPPINGS = {"builtins.dict", "collections.OrderedDict", "torch.fx.immutable_collections.immutable_dict"}
_DEEPEST = 16


def is_symbol(text: str) -> bool:
    """Return whether a text is the name of a size as torch gives them: s77, u0."""
    return _SYMBOL.fullmatch(text) is not None


def is_size_expression(text: str) -> bool:
    """Return whether a text is a size (or a condition on sizes) in sympy's constructors, and cheap to compute."""
    if len(text) > _LONGEST or not text.isascii():
        return False
    try:
        return _is_expression(ast.parse(text, mode="eval").body, 0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_expression(node: ast.expr, depth: int, powers: bool = True) -> bool:
    if depth > _DEEPEST:
        return False
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_number(node.operand)
    if isinstance(node, ast.Constant):
        return _is_number(node) or isinstance(node.value, bool)
    if isinstance(node, ast.Name):
        return node.id in _CONSTANTS or is_symbol(node.id)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    if not all(word.arg in _FACTS and isinstance(word.value, ast.Constant) for word in node.keywords):
        return False
    if any(isinstance(word.value, ast.Constant) and isinstance(word.value.value, str) for word in node.keywords):
        return False
    name = node.func.id
    if name in ("Symbol", "Float"):
        given = node.args[0] if len(node.args) == 1 else None
        if not isinstance(given, ast.Constant) or not isinstance(given.value, str):
            return name == "Float" and given is not None and _is_number(given)
        shape = _SYMBOL if name == "Symbol" else re.compile(r"-?\d{1,40}(\.\d{0,40})?(e[+-]?\d{1,3})?", re.ASCII)
        return shape.fullmatch(given.value) is not None
    if name in _POWERS:  # one power of a small exponent: 10 ** 10 ** 10 fills a memory
        return (
            powers
            and len(node.args) == 2
            and _is_small(node.args[1])
            and _is_expression(node.args[0], depth + 1, False)
        )
    return name in _FUNCTIONS and all(_is_expression(one, depth + 1, powers) for one in node.args)


def _is_number(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
        and -_LARGEST <= node.value < _LARGEST
    )


def _is_small(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Integer" and node.args:
        node = node.args[0]
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and abs(node.value) <= 16


def is_tree(text: str, is_key: Callable[[str], bool]) -> bool:
    """Return whether a text is a tree of built-in containers, as ``treespec_dumps`` writes it, whose keys all pass."""
    try:
        version, tree = json.loads(text)
        return version == 1 and _is_tree(tree, is_key, 0)
    except (ValueError, TypeError, RecursionError):
        return False


def _is_tree(tree: Any, is_key: Callable[[str], bool], depth: int) -> bool:
    if not isinstance(tree, dict) or set(tree) != {"type", "context", "children_spec"} or depth > _DEEPEST:
        return False
    children, context = tree["children_spec"], tree["context"]
    if not isinstance(children, list) or not all(_is_tree(child, is_key, depth + 1) for child in children):
        return False
    if tree["type"] is None:
        return context is None and not children
    keys = json.loads(context) if isinstance(context, str) else None
    if tree["type"] in _SEQUENCES:
        return keys is None
    if tree["type"] not in _MAPPINGS or not isinstance(keys, list):
        return False
    return len(keys) == len(children) and all(isinstance(key, str) and is_key(key) for key in keys)
