"""Convolutions on GPUs: few passes over memory, the last term and the product in one kernel.

What a GPU waits for is memory, so routes are chosen by what they move (`_expands`). Elements moved
for each cell by a convolution of K >= 3 terms of a recursion from C to D channels, batch
normalisation and ReLU included; what neighbours share is taken to come from caches:

==========================  ==========================  ============  ========
route                       elements                    K = 4, C = D  to ideal
==========================  ==========================  ============  ========
all in one kernel (ideal)   C + D                       2 C           1
expand, last term fused     (4 K - 8) C + D             9 C           4.5
expand, then cuBLAS         (4 K - 2) C + D             15 C          7.5
products first (contract)   C + (5 K - 5) D             16 C          8
given matrices, fused       C + D, for any K            2 C           1
==========================  ==========================  ============  ========

With two terms, a recursion is as near to the ideal as given matrices are. The gap is the recursion
itself: each order needs the neighbours of the one before. Matrices add 8 bytes for each entry and
order, which the samples of a batch share.

These kernels were tested in Triton's interpreter, and compiled for GPUs of compute capability 8.0
and 9.0, but not run on any: block sizes and the constants below rest on counts like the above, not
on measured times. Nothing waits for the GPU, so that CUDA graphs can record all but the first call
for each number of channels and type, at which Triton compiles and tries block sizes. Products by
cuBLAS follow PyTorch's settings on precision.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from xsphere.nn.sparse.epilogue import Epilogue
from xsphere.nn.sparse.launches import NOTHING, Cells, mix, sum_type, weigh
from xsphere.nn.sparse.matrices import Basis, FixedMatrices
from xsphere.nn.sparse.sources import channels_of, source_shift

# Channels that one kernel makes for a block of cells: their sums, in float32, fill half of the
# registers that threads have. More than these would have the last term made several times, in
# layers whose products take longer than memory does. Exact products of float32 need more registers
# for their factors; there is no kernel for float64.
MOST_FUSED = {torch.bfloat16: 256, torch.float16: 256, torch.float32: 128}
# Bytes of temporary arrays; samples of larger batches go one part after another.
SCRATCH = 4 << 30
# Multiply-adds in the time that one element takes to or from memory, by its size in bytes.
MULTIPLICATIONS = {2: 100, 4: 25, 8: 10}


@cache
def is_available() -> bool:
    """Whether Triton, which runs all this, is installed.

    Returns
    -------
    bool
        Whether it can be imported.

    Examples
    --------
    >>> is_available() in (True, False)
    True
    """
    return find_spec("triton") is not None


@torch.no_grad()
def convolve(basis: Basis, xs: Sequence[Tensor], weight: Tensor, epilogue: Epilogue) -> Tensor:
    """Sum over terms of each matrix times the samples times its weights.

    Parameters
    ----------
    basis : Basis
        The matrices.
    xs : sequence of tensors of float, shape (batch, n_source, channels)
        Samples, contiguous; channels of several follow each other.
    weight : tensor of float, shape (n_terms, channels_in, channels_out)
        Weights, for the channels of all.
    epilogue : Epilogue
        What is done to the result.

    Returns
    -------
    tensor of float, shape (batch, n_target, channels_out)
        Of the type of the samples; sums are of float32 at least, stored terms of that type.
    """
    xs, weight = _at_most_two(xs), weight.contiguous()
    n_terms, n_in, n_out = weight.shape
    y = xs[0].new_empty((len(xs[0]), basis.n_target, n_out))
    route = _contract
    if _expands(basis, n_in, n_out, y.dtype):
        route = _fuse if _is_fused(n_out, y.dtype) else _expand_and_multiply
    with _on(y.device):
        for part in _parts(basis, y, n_terms * max(n_in, n_out)):
            route(basis, [x[part] for x in xs], weight, epilogue, y[part])
    return y


@torch.no_grad()
def adjoint(
    basis: Basis,
    xs: Sequence[Tensor],
    weight: Tensor,
    gradient: Tensor,
    *,
    need_x: bool,
    need_weight: bool,
) -> tuple[list[Tensor] | None, Tensor | None]:
    """Gradients of the samples and of the weights of `convolve`.

    Both come from the terms of the transposed matrices times the gradient, which are made once.

    Parameters
    ----------
    basis, xs, weight
        As for `convolve`.
    gradient : tensor of float, shape (batch, n_target, channels_out)
        Of the result, before an epilogue.
    need_x, need_weight : bool
        What is wanted.

    Returns
    -------
    list of tensors, or None
        Like `xs`.
    tensor, or None
        Like `weight`.
    """
    _, n_in, n_out = weight.shape
    if not (need_x or need_weight):
        return None, None
    gradient = gradient.contiguous()
    if not need_weight and len(xs) == 1:
        return [convolve(basis.transposed, [gradient], weight.transpose(1, 2), NOTHING)], None
    with _on(gradient.device):
        if not need_x and n_in < n_out:
            return None, _moments(basis, xs, weight, gradient)
        return _adjoint(basis, xs, weight, gradient, need_x, need_weight)


@torch.no_grad()
def product(matrices: FixedMatrices, x: Tensor) -> Tensor:
    """A matrix times every sample.

    Parameters
    ----------
    matrices : FixedMatrices
        A single matrix.
    x : tensor of float, shape (batch, n_source, channels)
        Samples.

    Returns
    -------
    tensor of float, shape (batch, n_target, channels)
        Of the type of the samples; sums are of float32 at least.
    """
    y = x.new_empty((len(x), matrices.shape[0], x.shape[2]))
    with _on(x.device):
        weigh(matrices, Cells(x.contiguous()), out=y)
    return y


def _at_most_two(xs: Sequence[Tensor]) -> list[Tensor]:
    """Kernels take one or two sources; of more, all after the first are put together."""
    if len(xs) > 2:
        return [xs[0], torch.cat(list(xs[1:]), dim=2)]
    return [x.contiguous() for x in xs]


def _on(device: torch.device) -> AbstractContextManager[Any]:
    # Triton launches on the current device, whatever tensors it is given
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _parts(basis: Basis, like: Tensor, n_channels: int) -> Iterator[slice]:
    """Samples whose temporary arrays, of so many channels, fit into the scratch memory."""
    n_bytes = basis.matrices.shape[0] * n_channels * like.element_size()
    n_together = max(1, SCRATCH // max(1, n_bytes))
    for first in range(0, len(like), n_together):
        yield slice(first, first + n_together)


def _is_fused(n_out: int, dtype: torch.dtype) -> bool:
    return n_out <= MOST_FUSED.get(dtype, 0)


def _expands(basis: Basis, n_in: int, n_out: int, dtype: torch.dtype) -> bool:
    """Whether terms of the input cost less than sums of products: elements of each finer cell."""
    n_terms = basis.n_terms
    source = 0.25 if basis.children == "spread" else 1.0
    target = 0.25 if basis.children == "gathered" else 1.0
    n_stored = n_terms
    if _is_fused(n_out, dtype):
        n_stored = n_terms - 2 if basis.recursive else 0
    n_orders = n_terms - 1 if basis.recursive else 1
    work = n_terms * n_in * n_out / MULTIPLICATIONS[dtype.itemsize]
    expanding = max(1, 4 * n_stored) - (1 - source) * min(n_stored + 1, 3)
    contracting = 2 * n_terms * source + 3 * (n_orders - 1) + target
    return expanding * n_in + target * (n_out + work) < source * (n_in + work) + contracting * n_out


def _fuse(basis: Basis, xs: list[Tensor], weight: Tensor, epilogue: Epilogue, y: Tensor) -> None:
    """Terms but the last to memory; the last, in registers, with all products."""
    n_made = 1 if basis.recursive else basis.n_terms - 1
    n_stored = basis.n_terms - 1 - n_made
    terms = None
    if n_stored:
        terms = y.new_empty((n_stored, len(y), basis.matrices.shape[0], weight.shape[1]))
        for x, channels in zip(xs, channels_of(xs), strict=True):
            _expand(basis, x, [term[..., channels] for term in terms], [None] * n_stored)
    mix(basis.matrices, xs, terms, weight, y, n_made=n_made, epilogue=epilogue)


def _expand(
    basis: Basis, x: Tensor, outs: Sequence[Tensor | None], sums: Sequence[Tensor | None]
) -> None:
    """Terms 1, 2, ... of one source to `outs`, their sums over children to `sums`, if not None."""
    source = Cells(x, source_shift(basis))
    latest, before = source, None
    for number, (out, total) in enumerate(zip(outs, sums, strict=True)):
        if not basis.recursive:
            which = slice(number, number + 1)
            weigh(basis.matrices, source, which=which, out=out, sums=total)
            continue
        scale = 2 if number else 1
        weigh(basis.matrices, latest, scale=scale, minus=before, out=out, sums=total)
        if out is not None:
            latest, before = Cells(out), latest


def _panel(basis: Basis, xs: Sequence[Tensor]) -> Tensor:
    """All terms of some sources side by side: (batch, n_target, n_terms * channels)."""
    n_terms, n_in = basis.n_terms, sum(x.shape[2] for x in xs)
    panel = xs[0].new_empty((len(xs[0]), basis.n_target, n_terms * n_in))
    nowhere: list[Tensor | None] = [None] * n_terms
    for x, channels in zip(xs, channels_of(xs), strict=True):
        terms = panel.view(*panel.shape[:2], n_terms, n_in)[..., channels]
        places: list[Tensor | None] = list(terms.unbind(2))
        if basis.children == "gathered":
            shape = (len(x), basis.matrices.shape[0], x.shape[2])
            # the recursion goes on from the cells themselves
            needed = n_terms - 2 if basis.recursive else 0
            cells = [x.new_empty(shape) if 0 < k <= needed else None for k in range(n_terms)]
            outs, sums = cells, places
        else:
            outs, sums = places, nowhere
        weigh(basis.matrices, None, plus=Cells(x, source_shift(basis)), out=outs[0], sums=sums[0])
        _expand(basis, x, outs[1:], sums[1:])
    return panel


def _expand_and_multiply(
    basis: Basis, xs: list[Tensor], weight: Tensor, epilogue: Epilogue, y: Tensor
) -> None:
    """All terms to memory, then one product."""
    torch.mm(_flat(_panel(basis, xs)), weight.flatten(0, 1), out=_flat(y))
    epilogue.apply(y)


def _flat(x: Tensor) -> Tensor:
    return x.view(-1, x.shape[-1])


def _contract(
    basis: Basis, xs: list[Tensor], weight: Tensor, epilogue: Epilogue, y: Tensor
) -> None:
    """Products first, of parents where sources are parents; then ``sum_k A_k s_k``."""
    n_terms, n_in, n_out = weight.shape
    factors = weight.transpose(0, 1).reshape(n_in, n_terms * n_out)
    products = _products(basis, xs, factors).view(len(y), -1, n_terms, n_out)
    parts = [Cells(part, source_shift(basis)) for part in products.unbind(2)]
    first, *others = parts
    latest, before = others.pop() if basis.recursive else others[0], None
    # Clenshaw: b_k = s_k + 2 L b_(k+1) - b_(k+2), y = s_0 + L b_1 - b_2
    for part in reversed(others) if basis.recursive else ():
        b = y.new_empty((len(y), basis.matrices.shape[0], n_out))
        weigh(basis.matrices, latest, scale=2, plus=part, minus=before, out=b)
        latest, before = Cells(b), latest
    is_sum = basis.children == "gathered"
    weigh(
        basis.matrices, latest, which=slice(None), plus=first, minus=before,
        out=None if is_sum else y, sums=y if is_sum else None, epilogue=epilogue,
    )  # fmt: skip


def _products(basis: Basis, xs: list[Tensor], factors: Tensor) -> Tensor:
    """Sources times a matrix: (batch, n_source, columns)."""
    sums = xs[0].new_empty((*xs[0].shape[:2], factors.shape[1]))
    if len(xs) == 1:
        torch.mm(_flat(xs[0]), factors, out=_flat(sums))
    elif sums.dtype == torch.float64:
        torch.mm(_flat(torch.cat(xs, dim=2)), factors, out=_flat(sums))
    else:
        # sums over both sources are rounded once
        mix(basis.matrices, xs, None, factors, sums, n_made=0)
    return sums


def _adjoint(
    basis: Basis, xs: Sequence[Tensor], weight: Tensor, gradient: Tensor, need_x: bool,
    need_weight: bool,
) -> tuple[list[Tensor] | None, Tensor | None]:  # fmt: skip
    n_terms, n_in, n_out = weight.shape
    factors = weight.permute(0, 2, 1).reshape(n_terms * n_out, n_in)
    results = [torch.empty_like(x) for x in xs]
    moments = factors.new_zeros((n_in, n_terms * n_out), dtype=sum_type(weight.dtype))
    for part in _parts(basis, gradient, n_terms * n_out):
        panel = _flat(_panel(basis.transposed, [gradient[part]]))
        for x, result, channels in zip(xs, results, channels_of(xs), strict=True):
            if need_x:
                torch.mm(panel, factors[:, channels], out=_flat(result[part]))
            if need_weight:
                moments[channels] += _flat(x[part]).T @ panel
    of_weight = moments.view(n_in, n_terms, n_out).transpose(0, 1).to(weight.dtype)
    return results if need_x else None, of_weight.contiguous() if need_weight else None


def _moments(basis: Basis, xs: Sequence[Tensor], weight: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the weights alone, from the terms of the samples, which have fewer channels."""
    n_terms, n_in, n_out = weight.shape
    moments = weight.new_zeros((n_terms * n_in, n_out), dtype=sum_type(weight.dtype))
    for part in _parts(basis, gradient, n_terms * n_in):
        moments += _flat(_panel(basis, [x[part] for x in xs])).T @ _flat(gradient[part])
    return moments.view(weight.shape).to(weight.dtype)
