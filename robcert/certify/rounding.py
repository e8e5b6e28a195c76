r"""How far the executed float32 network can be from the network in real arithmetic, proven before it is run.

The graph is walked once more. With x^ the executed and x the exact value of a node, d a bound of ||x^ - x||_2 and r
one of ||x||_2, for one image and every input in the box,

    d(node) <= sum over what it reads of gain d(input) + local rounding of ||x^|| <= r + d,
    r(node) <= ||h(c)||_2 + L(node) ||x - c||_2    (c the centre of the box, h(c) in float64),

with the gains and constants L of the Lipschitz walk and the local rounding of `robcert.certify.rounding_rules`. The
proofs, and what is assumed of the kernels, are in docs/soundness.md, section 6.

Source: the layer-by-layer form is that of Murray (arXiv 2603.13334); the constants are derived anew.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from robcert.certify import rounding_functions as _functions  # registers its rules  # noqa: F401
from robcert.certify.kernels import check_kernels
from robcert.certify.rounding_rules import FLOAT32, FLOAT64, RULES, Layer, Local, Unit, largest_entry
from robcert.errors import EvaluationError
from robcert.lipschitz.call import Call
from robcert.lipschitz.rules.activations import positive_part
from robcert.lipschitz.values import Value, product, root, root_of_squares, total
from robcert.lipschitz.walk import Walk, depends
from robcert.math.rounding import gamma, up
from robcert.network.graph import BATCH, read_graph
from robcert.types import LoadedModel

_LIMIT = 2.0**120
"""Beyond this size a float32 number may overflow on the way, and no bound is given."""
