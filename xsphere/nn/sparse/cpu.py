"""Convolutions on the processor: terms of blocks of cells, multiplied while they are in cache.

Terms of a large grid are never all in memory: a block of cells is multiplied as soon as its own are
made. Small grids, whose weights are larger than their terms, and cells in no order are done at
once; where products come first, those of some samples are kept. Results depend neither on the
number of threads nor on the other samples of a batch, to the last bit.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xsphere.nn.sparse.epilogue import Epilogue
from xsphere.nn.sparse.jobs import Item, Job, Terms
from xsphere.nn.sparse.matrices import Basis, FixedMatrices
from xsphere.nn.sparse.memory import fresh, kept
from xsphere.nn.sparse.products import Extent, Strided, shared_product
from xsphere.nn.sparse.terms import channels_of
from xsphere.nn.sparse.workers import share_out

# Partial sums of products are kept apart, in so many elements, for threads not to wait.
PARTIAL_SUMS, MOST_PARTIAL_SUMS = 1 << 22, 16
# Elements of the terms of small grids, or of products, that are kept at a time.
KEPT = 1 << 21
# Rows that a thread does at a time.
ROWS = 1 << 11


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
        _contract(Job(basis, xs, n_out), weight, epilogue, y)
        return y
    job = Job(basis, xs, n_in)
    (_expand_whole if job.is_whole else _expand)(job, weight, epilogue, y)
    return y


def _has_products_first(basis: Basis, n_in: int, n_out: int) -> bool:
    """Whether parents' products for all their children, or of many channels to few, are cheaper."""
    return basis.children == "spread" or (basis.children == "none" and 4 * n_out <= n_in)


def _expand(job: Job, weight: Tensor, epilogue: Epilogue, y: Tensor) -> None:
    """Terms of the samples, multiplied with the weights of all terms at once."""
    from xsphere.nn.sparse.rows import multiply

    n_terms, n_in, n_out = weight.shape
    size, row = job.size, n_out * job.size
    scale, shift, rectify = _addresses(epilogue)

    def finish(item: Item, terms: Terms) -> None:
        last = terms.is_last
        multiply(
            item.n_rows, n_out, n_terms, terms.width,
            terms.address, terms.row, size, terms.term,
            weight.data_ptr() + terms.start * row, row, n_in * row,
            item.of(y).address, row, terms.start > 0,
            scale if last else 0, shift if last else 0, rectify and last, job.one,
        )  # fmt: skip

    job.expand(finish)


def _expand_whole(job: Job, weight: Tensor, epilogue: Epilogue, y: Tensor) -> None:
    """As `_expand`, of all cells at once: weights are read once for many samples."""
    n_terms, n_in, n_out = weight.shape
    for samples in _some_at_a_time(job, n_in * n_terms * job.basis.matrices.shape[0]):
        terms = job.whole(samples)
        shared_product(
            Extent(terms.shape[1], n_out, n_terms, n_in),
            Strided.of(terms),
            Strided.of(weight),
            Strided.of(y.flatten(0, 1), (samples.start * job.basis.n_target,)),
            one=job.one,
            epilogue=_addresses(epilogue),
        )


def _some_at_a_time(job: Job, n_elements: int) -> list[range]:
    """Numbers of samples that together have no more than so many elements each."""
    n_samples, n = len(job.xs[0]), max(KEPT // n_elements, 1)
    return [range(first, min(first + n, n_samples)) for first in range(0, n_samples, n)]


def _contract(job: Job, weight: Tensor, epilogue: Epilogue, y: Tensor) -> None:
    """Products first, for outputs of fewer channels than the input's, or of more cells."""
    n_terms, n_in, n_out = weight.shape
    n_source, width = job.basis.n_source, n_terms * n_out
    is_bias = epilogue.scale is None and not epilogue.rectify and job.basis.children != "gathered"
    early = _addresses(epilogue) if is_bias else (0, 0, False)
    late = Epilogue() if is_bias else epilogue
    for samples in _some_at_a_time(job, n_source * width):
        products = kept((len(samples), n_source, width), y.dtype)
        rows, start = products.flatten(0, 1), (samples.start * n_source,)
        for x, channels in zip(job.xs, channels_of(job.xs), strict=True):
            is_last = channels.stop == n_in
            for term in range(n_terms):
                shared_product(
                    Extent(len(rows), n_out, 1, x.shape[2]),
                    Strided.of(x.flatten(0, 1), start),
                    Strided.of(weight[term], (channels.start,)),
                    Strided.of(rows, (0, term * n_out)),
                    one=job.one,
                    accumulate=channels.start > 0,
                    # a bias goes through A_0, the identity, unchanged
                    epilogue=early if is_last and not term else (0, 0, False),
                )
        job.contract(products, y[samples.start : samples.stop], late.apply)


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
        return None, _moments_of_terms(Job(basis, xs, n_in), weight, gradient)
    job = Job(basis.transposed, [gradient], n_out)
    results = [fresh(tuple(x.shape), dtype) for x in xs] if need_x else None
    turned = weight.transpose(1, 2).contiguous()
    if job.is_whole:
        moments = weight.new_zeros(weight.shape) if need_weight else None
        _adjoint_whole(job, xs, turned, results, moments)
        return results, moments
    sums = _PartialSums(weight) if need_weight else None

    def finish(item: Item, terms: Terms) -> None:
        if results is not None:
            _add_to_samples(job, item, terms, turned, results)
        if sums is not None:
            _add_moments(job, item, terms, xs, sums.of_group(item.group))

    job.expand(finish, n_groups=sums.n_groups if sums else None)
    return results, None if sums is None else sums.total()


def _adjoint_whole(
    job: Job,
    xs: Sequence[Tensor],
    turned: Tensor,
    results: Sequence[Tensor] | None,
    moments: Tensor | None,
) -> None:
    """Both gradients of all cells at once: parts of the results for threads, not of the sums."""
    n_terms, n_out, _ = turned.shape
    n_cells = job.basis.n_target
    for samples in _some_at_a_time(job, n_out * n_terms * job.basis.matrices.shape[0]):
        terms, start = job.whole(samples), (samples.start * n_cells,)
        n_rows = terms.shape[1]
        for number, (x, channels) in enumerate(zip(xs, channels_of(xs), strict=True)):
            if results is not None:
                shared_product(
                    Extent(n_rows, x.shape[2], n_terms, n_out),
                    Strided.of(terms),
                    Strided.of(turned, (0, 0, channels.start)),
                    Strided.of(results[number].flatten(0, 1), start),
                    one=job.one,
                )
            for term, part in enumerate([] if moments is None else moments):
                shared_product(
                    Extent(x.shape[2], n_out, 1, n_rows),
                    Strided.of(x.flatten(0, 1), start).transposed,
                    Strided.of(terms[term]),
                    Strided.of(part, (channels.start,)),
                    one=job.one,
                    accumulate=samples.start > 0,
                )


def _add_to_samples(
    job: Job, item: Item, terms: Terms, turned: Tensor, results: Sequence[Tensor]
) -> None:
    """Terms of the gradient times the weights, whose channels are turned around."""
    from xsphere.nn.sparse.rows import multiply

    n_terms, n_out, n_in = turned.shape
    size, row = job.size, n_in * job.size
    for result, channels in zip(results, channels_of(results), strict=True):
        target = item.of(result)
        multiply(
            item.n_rows, target.n_channels, n_terms, terms.width,
            terms.address, terms.row, size, terms.term,
            turned.data_ptr() + terms.start * row + channels.start * size, row, n_out * row,
            target.address, target.row, terms.start > 0, 0, 0, False, job.one,
        )  # fmt: skip


def _add_moments(job: Job, item: Item, terms: Terms, xs: Sequence[Tensor], sums: Tensor) -> None:
    """Samples times terms of the gradient, summed over cells."""
    from xsphere.nn.sparse.rows import multiply

    n_terms, n_in, n_out = sums.shape
    size, row = job.size, n_out * job.size
    for x, channels in zip(xs, channels_of(xs), strict=True):
        source = item.of(x)
        for term in range(n_terms):
            multiply(
                source.n_channels, terms.width, 1, item.n_rows,
                source.address, size, source.row, 0,
                terms.address + term * terms.term, terms.row, 0,
                sums.data_ptr() + (term * n_in + channels.start) * row + terms.start * size, row,
                True, 0, 0, False, job.one,
            )  # fmt: skip


def _moments_of_terms(job: Job, weight: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the weights alone: terms of the samples times the gradient."""
    from xsphere.nn.sparse.rows import multiply

    n_terms, n_in, n_out = weight.shape
    size, row = job.size, n_out * job.size
    sums = _PartialSums(weight)

    def finish(item: Item, terms: Terms) -> None:
        total = sums.of_group(item.group)
        right = item.of(gradient)
        for term in range(n_terms):
            multiply(
                terms.width, n_out, 1, item.n_rows,
                terms.address + term * terms.term, size, terms.row, 0,
                right.address, right.row, 0,
                total.data_ptr() + (term * n_in + terms.start) * row, row,
                True, 0, 0, False, job.one,
            )  # fmt: skip

    job.expand(finish, n_groups=sums.n_groups)
    return sums.total()


class _PartialSums:
    """Sums like the weights, kept by groups that do not depend on the number of threads."""

    def __init__(self, weight: Tensor) -> None:
        self.n_groups = min(max(PARTIAL_SUMS // weight.numel(), 1), MOST_PARTIAL_SUMS)
        self._zeros: Callable[[], Tensor] = lambda: torch.zeros_like(
            weight, memory_format=torch.contiguous_format
        )
        self._sums: dict[int, Tensor] = {}
        self._lock = threading.Lock()

    def of_group(self, group: int) -> Tensor:
        """The sums of a group."""
        with self._lock:
            if group not in self._sums:
                self._sums[group] = self._zeros()
            return self._sums[group]

    def total(self) -> Tensor:
        """Sum over the groups, in their order."""
        total = self._sums.get(0, None)
        total = self._zeros() if total is None else total
        for group in sorted(self._sums):
            if group:
                total += self._sums[group]
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
    from xsphere.nn.sparse.rows import weigh_rows

    if x.dtype not in (torch.float32, torch.float64):
        return product(matrices, x.float()).to(x.dtype)
    addresses = [part.data_ptr() for part in matrices.entries(x.device, x.dtype)]
    n_target, n_channels = matrices.shape[0], x.shape[2]
    y = fresh((len(x), n_target, n_channels), x.dtype)
    one = np.float64(1) if x.dtype == torch.float64 else np.float32(1)
    row = n_channels * x.element_size()
    n_parts = -(-n_target // ROWS)

    def work(items: range) -> None:
        for sample, part in (divmod(item, n_parts) for item in items):
            first, last = part * ROWS, min((part + 1) * ROWS, n_target)
            source, target = x[sample].data_ptr(), y[sample].data_ptr()
            weigh_rows(
                first, last, *addresses, n_channels, source, row,
                0, 0, 0, 0, 0, 0, target, row, one,
            )  # fmt: skip

    share_out(work, len(x) * n_parts)
    return y


def _single(xs: Sequence[Tensor]) -> list[Tensor]:
    return [x.float() for x in xs]


def _addresses(epilogue: Epilogue) -> tuple[int, int, bool]:
    scale, shift = (
        0 if values is None else values.data_ptr() for values in (epilogue.scale, epilogue.shift)
    )
    return scale, shift, epilogue.rectify
