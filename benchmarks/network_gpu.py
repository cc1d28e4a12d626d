"""Layers on a GPU: against a peer in single precision, and against a copy of the same memory."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from convolutions import (
    OURS,
    PRODUCT,
    Case,
    Problem,
    interleaved,
    made,
    ours,
    product_alone,
    published,
)
from straightforward import Blocks
from torch import Tensor

HALF, COPY = f"{OURS} bf16", "copy"
COPIED = 2**28
# of bf16 weights and samples beside float32
TOLERANCES = {HALF: 5e-2, OURS: 1e-3}
BANDWIDTH_AIM, RATIO_AIM = 0.6, 10.0
Row = tuple[Any, ...]


def free_memory(device: str) -> float:
    """Bytes that a GPU has left."""
    return torch.cuda.mem_get_info()[0] if device.startswith("cuda") else 2**32


def least_bytes(problem: Problem, item: int) -> float:
    """What has to move at least: samples in and out, the Laplacian and the weights once."""
    entries = problem.graph.scaled_laplacian.nnz
    return 2 * problem.case.n_values * item + entries * (4 + item) + problem.weight.numel() * item


def stepwise_bytes(problem: Problem, item: int) -> float:
    """What moves where each order is a pass: two terms read, one written, all read at the end."""
    case = problem.case
    passes = 2 + 3 * (case.kernel_size - 2) + case.kernel_size + 1
    entries = problem.graph.scaled_laplacian.nnz * (case.kernel_size - 1)
    return passes * case.n_values * item + entries * (4 + item) + problem.weight.numel() * item


def calls_of(problem: Problem, blocks: Blocks, device: str) -> dict[str, Callable[[], Tensor]]:
    """Ours in both precisions, the product, a copy, and the peer where there is room for it."""
    half = ours(problem, torch.bfloat16)
    single = ours(problem)
    x, short = problem.x, problem.x.bfloat16()
    rows = product_alone(problem._replace(x=short, weight=problem.weight.bfloat16()))
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.empty_like(source)
    calls: dict[str, Callable[[], Tensor]] = {
        HALF: lambda: half(short),
        OURS: lambda: single(x),
        PRODUCT: lambda: rows(short),
        COPY: lambda: target.copy_(source),
    }
    case = problem.case
    if 4 * (3 * case.kernel_size + 2) * case.n_values < free_memory(device):
        peer = published(problem, blocks)
        calls[blocks.name] = lambda: peer(x)
    return calls


def errors(calls: dict[str, Callable[[], Tensor]], peer: str) -> dict[str, float]:
    """Errors relative to the largest value, of bf16 beside float32, of float32 beside the peer."""
    single = calls[OURS]()
    scale = float(single.abs().max())
    found = {HALF: float((calls[HALF]() - single).abs().max()) / scale}
    if peer in calls:
        found[OURS] = float((calls[peer]() - single).abs().max()) / scale
    return found


def peak_gib(call: Callable[[], Tensor], device: str) -> str:
    """GiB that a call takes on top of what is held."""
    if not device.startswith("cuda"):
        return "-"
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return f"{(torch.cuda.max_memory_allocated() - before) / 2**30:.2f}"


def row_of(case: Case, blocks: Blocks, options: argparse.Namespace) -> Row:
    """Figures of a case."""
    problem = made(case, options.weights, options.device)
    calls = calls_of(problem, blocks, options.device)
    found = errors(calls, blocks.name)
    wrong = {name: error for name, error in found.items() if not error < TOLERANCES[name]}
    if wrong:
        raise SystemExit(f"outputs differ for {case}: relative errors {wrong}")
    ms = interleaved(calls, options.repeat, options.device)
    copied = 2 * COPIED / ms[COPY]
    shares = [count(problem, 2) / ms[HALF] / copied for count in (least_bytes, stepwise_bytes)]
    names = (HALF, OURS, blocks.name)
    peer = ms.get(blocks.name)
    return (
        *case,
        *(f"{peer / ms[name]:.1f}" if peer else "-" for name in (HALF, OURS)),
        *(f"{share:.0%}" for share in shares),
        f"{ms[HALF] / ms[PRODUCT]:.2f}",
        *(f"{ms[name]:.3g}" if name in ms else "-" for name in names),
        *(peak_gib(calls[name], options.device) if name in calls else "-" for name in names),
        f"{copied / 1e6:.0f}",
        *(f"{found[name]:.0e}" if name in found else "-" for name in (HALF, OURS)),
    )


def gpu_rows(
    cases: list[Case], blocks: Blocks, options: argparse.Namespace
) -> tuple[str, Row, list[Row]]:
    """Title, heads and rows of the table of all cases."""
    with torch.inference_mode():
        rows = [row_of(case, blocks, options) for case in cases]
    names = (HALF, OURS, blocks.name)
    heads = (
        *("nside", "k", "channels", "batch", "K"),
        *(f"{blocks.name} / {name}" for name in (HALF, OURS)),
        *(f"of the copy's bandwidth: {what}" for what in ("at least", "a pass an order")),
        f"{HALF} / {PRODUCT} bf16",
        *(f"ms: {name}" for name in names),
        *(f"GiB: {name}" for name in names),
        "GB/s: copy",
        *(f"error: {name}" for name in (HALF, OURS)),
    )
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    title = (
        f"**GPU** ({name}): how many times longer {blocks.name} takes in float32 (aim: "
        f"{RATIO_AIM:g} times {HALF}), and the bytes that {HALF} moves, counted once or with one "
        f"pass an order, as part of what a copy moves in the time (aim: {BANDWIDTH_AIM:.0%} where "
        "memory is the limit)"
    )
    return title, heads, rows
