"""A stand-in for a CUDA graph on a CPU: it records operators and addresses, and replays them without Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Work = Callable[[], None]


class HostRead(RuntimeError):
    """Something that a CUDA graph cannot hold: the host would have to know a value."""


def host_read(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What the host would have to wait for on a device, or None: values, shapes that follow values, moves."""
    name = str(func)
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if name.startswith(("aten.index.", "aten.index_put")):  # a mask as an index is a nonzero() on a device
        if any(part.dtype == torch.bool for part in args[1] if part is not None):
            return f"{name}: by a mask"
    elif {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
        return name
    if name.startswith("aten.lift_fresh"):
        return f"{name}: a tensor made of Python numbers is copied to the device"
    if len({tensor.device for tensor in given if tensor.dim()}) > 1:  # a number on the host goes along with a kernel
        return f"{name}: on two devices"
    target = kwargs.get("device")
    if name.startswith("aten._to_copy") and target is not None and torch.device(target).type != given[0].device.type:
        return f"{name}: from {given[0].device} to {target}"
    return None


class Refusing(TorchDispatchMode):
    """Raises `HostRead` where a step would make the host wait for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (what := host_read(func, args, kwargs or {})) is not None:
            raise HostRead(what)
        return func(*args, **(kwargs or {}))


class _Noting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (what := host_read(func, args, kwargs or {})) is not None:
            self.seen.append(what)
        return func(*args, **(kwargs or {}))


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.own: set[int] = set()  # storages that came into being on the tape
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (what := host_read(func, args, kwargs)) is not None:
            raise HostRead(what)
        for k, declared in enumerate(func._schema.arguments):
            if declared.alias_info is not None and declared.alias_info.is_write:
                written = kwargs[declared.name] if declared.kwarg_only else args[k]
                for tensor in tree_leaves(written):
                    at = tensor.untyped_storage().data_ptr()
                    if at not in self.own and at not in self.before:
                        entries = tensor.untyped_storage().nbytes() // tensor.itemsize
                        whole = tensor.detach().as_strided((entries,), (1,), 0)
                        self.before[at] = (whole, whole.clone())
        out = func(*args, **kwargs)
        if not any(result.alias_info is not None for result in func._schema.returns):
            self.own |= {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)}
        self.operations.append((func, args, kwargs, out))
        return out

    def undo(self) -> None:
        """A capture does nothing: put back what was written."""
        for tensor, value in self.before.values():
            tensor.copy_(value)


class Tape:
    """See `robcert.accel.capture.Recorder`."""

    def __init__(self, took: Iterable[float] = ()) -> None:
        self.recorded = 0
        self.replayed = 0
        self.took = iter(took)

    def rehearse(self, work: Work) -> str | None:
        with _Noting() as noting:
            work()
        return noting.seen[0] if noting.seen else None

    def record(self, work: Work) -> Work:
        recording = _Recording()
        try:
            with recording:
                work()
        finally:
            recording.undo()
        self.recorded += 1

        @torch.no_grad()
        def replay() -> None:
            self.replayed += 1
            for func, args, kwargs, out in recording.operations:
                again = func(*args, **kwargs)
                if any(result.alias_info is not None for result in func._schema.returns):
                    continue  # a view, or written in place
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor):
                        old.detach().copy_(new)

        return replay

    def seconds(self, work: Work) -> float:
        """What the next work is to have taken; 0 where nobody said."""
        work()
        return next(self.took, 0.0)


class Launched:
    """Records nothing: a replay does the work anew, launched from Python. What recorded work is compared with."""

    def rehearse(self, work: Work) -> str | None:
        """Do the work."""
        work()
        return None

    def record(self, work: Work) -> Work:
        """The work itself."""
        return work

    def seconds(self, work: Work) -> float:
        """Do the work; nobody asks what it took."""
        work()
        return 0.0
