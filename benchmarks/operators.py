"""How many operators a step is: on a GPU each is a kernel or a few, and takes some microseconds however small it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import bare
from per_step import ATTACKS, leg_over
from task import Task
from torch.utils._python_dispatch import TorchDispatchMode


class _Counting(TorchDispatchMode):
    """Counts what computes: views and empty tensors launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        self.count += not view and not str(func).startswith("aten.empty")
        return func(*args, **(kwargs or {}))


def counted(work: Callable[[], object]) -> int:
    """Operators of the work."""
    with _Counting() as counting:
        work()
    return counting.count


def operators(task: Task) -> dict[str, int]:
    """Operators of a bare step and of one of every attack, as it is captured."""
    found = {"bare loop": counted(lambda: bare(task, task.x))}
    for name in ATTACKS:
        leg = leg_over(task, name, "launched", iterations=100)
        leg.oracle.on_host = False

        def step(leg: Any = leg) -> None:
            leg.attack.step(leg.oracle, leg.problem, leg.state)

        found[name] = counted(step)
    return found
