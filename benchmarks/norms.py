"""Table 1 of Liang & Huang (2021): the time for the norms of six convolutions on a 32x32 input, ours and others'.

    python benchmarks/norms.py            # some minutes
    python benchmarks/norms.py --quick    # the two smallest kernels

Stride 1, zero padding that keeps the size, float32 weights from a normal distribution. CPU seconds of one thread for
100 calls; a method that takes longer than a quarter of a second a call is called once to three times and scaled, and
marked so (~). Every call begins with the float32 weights. The other methods are written from their formulas:

VS     power iteration on A^T A by automatic differentiation, float32 (Virmaux & Scaman 2018, algorithm 2): from a
       random vector until the norm changes by less than 1e-4 relatively, at most 500 steps. A lower bound.
SGL    FFT of the kernel on the input's own grid and the singular values of every block (Sedghi, Gupta & Long 2019,
       their numpy listing). Exact for circular padding; for zero padding neither an upper nor a lower bound.

Exits 0 whether or not the targets are met.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy
import torch
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from robcert.bounds.lipschitz.convolution import Conv
from robcert.bounds.lipschitz.norms import operator_norm
from robcert.bounds.lipschitz.operators import Bound

KERNELS = [(3, 3, 32, 32), (3, 3, 32, 128), (3, 3, 128, 256), (3, 3, 256, 512), (5, 5, 256, 128), (5, 5, 512, 256)]
"""Height, width, input channels, output channels, as in the paper."""
SIDE = 32
CALLS = 100
PATIENCE = 0.25
"""CPU seconds: a slower method is called fewer times."""


@dataclass(frozen=True)
class Timed:
    """A result, and CPU seconds for 100 calls; ``scaled`` if they were fewer."""

    value: float
    seconds: float
    scaled: bool
    bound: Bound | None = None

    def cell(self) -> str:
        return f"{'~' if self.scaled else ''}{self.seconds:.3g}"


def operator(weight: Tensor) -> Conv:
    half = [int(k) // 2 for k in weight.shape[2:]]
    return Conv(weight, (SIDE, SIDE), (1, 1), tuple((p, p) for p in half), (1, 1))


def exact(norm: str) -> Callable[[Tensor], Bound]:
    return lambda weight: operator_norm(operator(weight), norm)  # pyright: ignore[reportArgumentType]


def spectral(weight: Tensor) -> Bound:
    return operator_norm(operator(weight), "l2", tol=0.01)


def power_iteration(weight: Tensor) -> float:
    padding = [int(k) // 2 for k in weight.shape[2:]]
    x = torch.randn(1, weight.shape[1], SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    x, norm = x / x.norm(), 0.0
    for _ in range(500):
        x = x.requires_grad_()
        y = F.conv2d(x, weight, padding=padding)
        (gradient,) = torch.autograd.grad(0.5 * y.square().sum(), x)
        before, norm = norm, float(y.detach().norm())
        x = (gradient / gradient.norm()).detach()
        if abs(norm - before) < 1e-4 * norm:
            break
    return norm


def sedghi(weight: Tensor) -> float:
    kernel = weight.permute(2, 3, 1, 0).numpy()
    transforms = numpy.fft.fft2(kernel, (SIDE, SIDE), axes=[0, 1])
    return float(numpy.linalg.svd(transforms, compute_uv=False).max())


def timed(call: Callable[[Tensor], Bound | float], weight: Tensor) -> Timed:
    """CPU seconds of 100 calls, from 1 to 100 of them; the first of a fast method is for warming up."""
    begin = time.process_time()
    result = call(weight)
    first = time.process_time() - begin
    if first < PATIENCE:
        calls = CALLS
        begin = time.process_time()
        for _ in range(calls):
            result = call(weight)
        seconds = time.process_time() - begin
    else:
        calls = 1 if first > 2 else 3
        begin = time.process_time() - first
        for _ in range(calls - 1):
            result = call(weight)
        seconds = (time.process_time() - begin) * CALLS / calls
    bound = result if isinstance(result, Bound) else None
    value = result.upper if isinstance(result, Bound) else result
    return Timed(value, seconds, calls < CALLS, bound)


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the two smallest kernels")
    quick = parser.parse_args().quick
    console = Console(width=130)
    times = Table(title=f"CPU seconds of {CALLS} calls, one thread (~: fewer calls, scaled)")
    values = Table(title="values; l2 is lower - upper, VS approaches from below, SGL is no bound for zero padding")
    for table in (times, values):
        table.add_column("kernel")
    for name in (
        "l2 (VS)",
        "l2 (SGL)",
        "l1 (ours)",
        "l-inf (ours)",
        "l2 (ours)",
        "SGL / l1",
        "SGL / l-inf",
        "SGL / l2",
    ):
        times.add_column(name, justify="right")
    for name in ("l2 (VS)", "l2 (SGL)", "l1 (ours)", "l-inf (ours)", "l2 (ours)", "gap"):
        values.add_column(name, justify="right")
    rows: list[tuple[Timed, ...]] = []
    for height, width, inputs, outputs in KERNELS[: 2 if quick else None]:
        generator = torch.Generator().manual_seed(inputs + outputs)
        weight = torch.randn(outputs, inputs, height, width, generator=generator) / (inputs * height * width) ** 0.5
        methods = (power_iteration, sedghi, exact("l1"), exact("linf"), spectral)
        vs, sgl, l1, linf, l2 = row = tuple(timed(method, weight) for method in methods)
        rows.append(row)
        name = f"{height}, {width}, {inputs}, {outputs}"
        ratios = (f"{sgl.seconds / own.seconds:,.4g}" for own in (l1, linf, l2))
        times.add_row(name, *(t.cell() for t in row), *ratios)
        assert l2.bound is not None
        plain = (f"{t.value:.5f}" for t in (vs, sgl, l1, linf))
        values.add_row(name, *plain, f"{l2.bound.lower:.5f} - {l2.bound.upper:.5f}", f"{l2.bound.gap:.2%}")
    console.print(f"{platform.machine()}, torch {torch.__version__}, numpy {numpy.__version__}, one thread\n")
    console.print(times)
    console.print(values)
    large = rows[-4:]
    fast = min(sgl.seconds / max(l1.seconds, linf.seconds) for _, sgl, l1, linf, _ in large)
    widest = max(l2.bound.gap for *_, l2 in rows if l2.bound)
    sound = all(vs.value <= l2.value * (1 + 1e-5) for vs, *_, l2 in rows)
    slowest = max(l2.seconds / sgl.seconds for _, sgl, _, _, l2 in rows)
    console.print(
        f"l1 and l-inf at least 1,000 times faster than SGL (four largest): {fast:,.0f} times, {verdict(fast >= 1000)}"
    )
    console.print(f"l2: gap at most 1 %: {widest:.2%} at most, {verdict(widest <= 0.01)}")
    console.print(f"l2: upper at least what VS attains: {verdict(sound)}")
    console.print(f"l2: no more CPU seconds than SGL: {slowest:.3f} of them at most, {verdict(slowest <= 1)}")
    console.print(f"l2: the aim, a fifth of SGL: {verdict(slowest <= 0.2)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
