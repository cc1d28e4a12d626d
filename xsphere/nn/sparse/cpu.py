"""Convolutions on the processor: terms of blocks of cells, multiplied while they are in cache.

Terms of a large grid are never all in memory: a block of cells is multiplied as soon as its own are
made. Small grids, whose weights are larger than their terms, and cells in no order are done at
once; where products come first, those of some samples are kept. Results depend neither on the
number of threads nor on the other samples of a batch, to the last bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsphere.nn.sparse.epilogue import Epilogue
from xsphere.nn.sparse.jobs import Job, run, table, threads_for
from xsphere.nn.sparse.matrices import Basis, FixedMatrices
from xsphere.nn.sparse.memory import fresh, kept
from xsphere.nn.sparse.products import NOTHING, Product, Strided, shared_products
from xsphere.nn.sparse.records import ROWS
from xsphere.nn.sparse.sources import channels_of

# Partial sums of products are kept apart, in so many elements, for threads not to wait.
PARTIAL_SUMS, MOST_PARTIAL_SUMS = 1 << 22, 16
# Elements of the terms of small grids, or of products, that are kept at a time.
KEPT = 1 << 21


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
        Of the type of the samples; all work is done in float32 or float64.
    """
    dtype = weight.dtype
    if dtype not in (torch.float32, torch.float64):
        y = convolve(basis, _single(xs), weight.float(), epilogue.to(torch.float32))
        return y.to(dtype)
    weight = weight.contiguous()
    n_in, n_out = weight.shape[1:]
    y = fresh((len(xs[0]), basis.n_target, n_out), dtype)
    if _has_products_first(basis, n_in, n_out):
        _contract(Job.of(basis, xs, n_out), weight, epilogue, y)
        return y
    job = Job.of(basis, xs, n_in)
    (_expand_whole if job.is_whole else _expand)(job, weight, epilogue, y)
    return y


def _has_products_first(basis: Basis, n_in: int, n_out: int) -> bool:
    """Whether parents' products for all their children, or of many channels to few, are cheaper."""
    return basis.children == "spread" or (basis.children == "none" and 4 * n_out <= n_in)


def _expand(job: Job, weight: Tensor, epilogue: Epilogue, y: Tensor) -> None:
    """Terms of the samples, multiplied with the weights of all terms at once."""
    job.share(
        "convolve_blocks",
        weight.data_ptr(),
        table([y]),
        *_addresses(epilogue),
        n_items=job.n_items,
        n_arrays=len(weight),
    )


def _expand_whole(job: Job, weight: Tensor, epilogue: Epilogue, y: Tensor) -> None:
    """As `_expand`, of all cells at once: weights are read once for many samples."""
    n_terms, n_in, n_out = weight.shape
    for samples in _some_at_a_time(job, n_in * n_terms * job.basis.matrices.shape[0]):
        terms = job.whole(samples)
        out = Strided.of(y.flatten(0, 1), (samples.start * job.basis.n_target,))
        factors = Strided.of(terms), Strided.of(weight), out
        sizes = terms.shape[1], n_out, n_terms, n_in
        shared_products([Product(*sizes, *factors, epilogue=_addresses(epilogue))], y.dtype)


def _some_at_a_time(job: Job, n_elements: int) -> list[range]:
    """Numbers of samples that together have no more than so many elements each."""
    n_samples, n = len(job.xs[0]), max(KEPT // n_elements, 1)
    return [range(first, min(first + n, n_samples)) for first in range(0, n_samples, n)]


def _contract(job: Job, weight: Tensor, epilogue: Epilogue, y: Tensor) -> None:
    """Products first, for outputs of fewer channels than the input's, or of more cells."""
    n_terms, n_in, n_out = weight.shape
    n_source, width = job.basis.n_source, n_terms * n_out
    is_bias = epilogue.scale is None and not epilogue.rectify and job.basis.children != "gathered"
    # a bias goes through A_0, the identity, unchanged
    early = _addresses(epilogue) if is_bias else NOTHING
    late = NOTHING if is_bias else _addresses(epilogue)
    for samples in _some_at_a_time(job, n_source * width):
        products = kept((len(samples), n_source, width), y.dtype)
        rows, start = products.flatten(0, 1), (samples.start * n_source,)
        for x, channels in zip(job.xs, channels_of(job.xs), strict=True):
            left, is_last = Strided.of(x.flatten(0, 1), start), channels.stop == n_in
            shared_products(
                [
                    Product(
                        *(len(rows), n_out, 1, x.shape[2]),
                        left,
                        Strided.of(weight[term], (channels.start,)),
                        Strided.of(rows, (0, term * n_out)),
                        accumulate=channels.start > 0,
                        epilogue=early if is_last and not term else NOTHING,
                    )
                    for term in range(n_terms)
                ],
                y.dtype,
            )
        job.contract(products, y[samples.start : samples.stop], *late)


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
    needs: Any = {"need_x": need_x, "need_weight": need_weight}
    dtype = weight.dtype
    if dtype not in (torch.float32, torch.float64):
        wide = adjoint(basis, _single(xs), weight.float(), gradient.float(), **needs)
        of_xs, of_weight = wide
        narrow = None if of_xs is None else [x.to(dtype) for x in of_xs]
        return narrow, None if of_weight is None else of_weight.to(dtype)
    n_in, n_out = weight.shape[1:]
    if not need_x and n_in < n_out and basis.children != "spread":
        return None, _moments_of_terms(Job.of(basis, xs, n_in), weight, gradient)
    job = Job.of(basis.transposed, [gradient], n_out)
    results = [fresh(tuple(x.shape), dtype) for x in xs] if need_x else None
    turned = weight.transpose(1, 2).contiguous() if need_x else weight
    if job.is_whole:
        moments = _fresh_sums((), weight, job.n_items) if need_weight else None
        _adjoint_whole(job, xs, turned, results or [], moments)
        return results, moments
    sums, ends = _partial_sums(job, weight) if need_weight else (None, job.groups(job.n_items))
    job.share(
        "adjoin_blocks",
        *(ends, len(ends) - 1),
        turned.data_ptr(),
        *(table(results or []), len(results or [])),
        *(table(xs), len(xs)),
        0 if sums is None else sums.data_ptr(),
        n_items=len(ends) - 1,
        n_arrays=len(weight),
    )
    return results, None if sums is None else _total(sums)


def _adjoint_whole(
    job: Job,
    xs: Sequence[Tensor],
    turned: Tensor,
    results: Sequence[Tensor],
    moments: Tensor | None,
) -> None:
    """Both gradients of all cells at once: parts of the results for threads, not of the sums."""
    n_terms, n_out, n_cells = job.basis.n_terms, job.n_channels, job.basis.n_target
    for samples in _some_at_a_time(job, n_out * n_terms * job.basis.matrices.shape[0]):
        terms, start = job.whole(samples), (samples.start * n_cells,)
        n_rows, products = terms.shape[1], []
        for result, channels in zip(results, channels_of(results), strict=True):
            factors = Strided.of(terms), Strided.of(turned, (0, 0, channels.start))
            out = Strided.of(result.flatten(0, 1), start)
            products.append(Product(n_rows, result.shape[2], n_terms, n_out, *factors, out))
        for x, channels in zip(xs, channels_of(xs), strict=True):
            left = Strided.of(x.flatten(0, 1), start).transposed
            for term, part in enumerate([] if moments is None else moments):
                factors = left, Strided.of(terms[term])
                out = Strided.of(part, (channels.start,))
                sizes, later = (x.shape[2], n_out, 1, n_rows), samples.start > 0
                products.append(Product(*sizes, *factors, out, accumulate=later))
        shared_products(products, terms.dtype)


def _moments_of_terms(job: Job, weight: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the weights alone: terms of the samples times the gradient."""
    sums, ends = _partial_sums(job, weight)
    job.share(
        "correlate_blocks",
        *(ends, len(ends) - 1),
        table([gradient]),
        sums.data_ptr(),
        n_items=len(ends) - 1,
        n_arrays=len(weight),
    )
    return _total(sums)


def _partial_sums(job: Job, weight: Tensor) -> tuple[Tensor, NDArray[np.int64]]:
    """Sums like the weights, kept by groups of items that do not depend on the threads."""
    n_groups = min(PARTIAL_SUMS // weight.numel(), MOST_PARTIAL_SUMS, job.n_items)
    sums = _fresh_sums((max(n_groups, 1),), weight, job.n_items)
    return sums, job.groups(len(sums))


def _fresh_sums(shape: tuple[int, ...], weight: Tensor, n_items: int) -> Tensor:
    """Sums that are written before they are added to, unless there are no samples at all."""
    sums = fresh((*shape, *weight.shape), weight.dtype)
    return sums if n_items else sums.zero_()


def _total(sums: Tensor) -> Tensor:
    """Sum over the groups, in their order."""
    total = sums[0].clone()
    for part in sums[1:]:
        total += part
    return total


def product(matrices: FixedMatrices, x: Tensor) -> Tensor:
    """Product of one matrix with every sample.

    Parameters
    ----------
    matrices : FixedMatrices
        A single matrix.
    x : tensor of float, shape (batch, n_source, channels)
        Samples, contiguous.

    Returns
    -------
    tensor of float, shape (batch, n_target, channels)
        Of the type of the samples; sums are of float32 at least.
    """
    from xsphere.nn.sparse.entries import kernel

    if x.dtype not in (torch.float32, torch.float64):
        return product(matrices, x.float()).to(x.dtype)
    entries = matrices.entries(x.device, x.dtype)
    n_target = matrices.shape[0]
    y = fresh((len(x), n_target, x.shape[2]), x.dtype)
    run(
        "weigh_samples",
        (
            *(len(x), n_target),
            *(part.data_ptr() for part in entries),
            *(table([x]), table([y])),
            kernel("weigh_rows", x.dtype).address,
        ),
        threads_for(len(x) * -(-n_target // ROWS)),
    )
    return y


def _single(xs: Sequence[Tensor]) -> list[Tensor]:
    return [x.float() for x in xs]


def _addresses(epilogue: Epilogue) -> tuple[int, int, bool]:
    scale, shift = (
        0 if values is None else values.data_ptr() for values in (epilogue.scale, epilogue.shift)
    )
    return scale, shift, epilogue.rectify
