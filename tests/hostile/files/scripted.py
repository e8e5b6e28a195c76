"""Modules and classes that TorchScript compiles. It reads annotations as they stand, so they are not postponed here."""

import torch
from torch import nn


class SetState(nn.Module):
    def __init__(self, place: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10, 64))
        self.place = place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x.flatten(1), self.weight)

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, str, bool]:
        return self.weight, self.place, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]) -> None:
        self.weight, self.place, self.training = state[0], state[1], state[2]
        torch.save(state[0], state[1])


class Unused(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@torch.jit.script
class Thing:
    def __init__(self, t: torch.Tensor, name: str):
        self.t = t
        self.name = name

    def __getstate__(self) -> tuple[torch.Tensor, str]:
        return self.t, self.name

    def __setstate__(self, state: tuple[torch.Tensor, str]) -> None:
        self.t = state[0]
        self.name = state[1]
        torch.save(state[0], "PLACE")


class Holder(nn.Module):
    thing: Thing

    def __init__(self, thing: Thing) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.thing = thing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)) + self.thing.t


def _task(x: torch.Tensor, name: str) -> torch.Tensor:
    torch.save(x, name)
    return x


class Forks(nn.Module):
    def __init__(self, place: str) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.place = place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        task = torch.jit.fork(_task, x, self.place)
        return self.linear(torch.jit.wait(task).flatten(1))


def _hook(_: nn.Module, given: tuple[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
    torch.save(given[0], "PLACE")
    return out


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net[1].register_forward_hook(_hook)
    return net


@torch.jit.interface
class _Step(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pass


class _Saver(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "PLACE")
        return x


class Behind(nn.Module):
    step: _Step

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.step = _Saver()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.step.forward(x).flatten(1))
