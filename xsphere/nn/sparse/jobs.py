"""Runs of compiled loops over the blocks of a convolution, in torch's threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsphere.nn.sparse import records
from xsphere.nn.sparse.matrices import Basis
from xsphere.nn.sparse.memory import kept, scratch
from xsphere.nn.sparse.plans import Plan
from xsphere.nn.sparse.records import WIDTH
from xsphere.nn.sparse.workers import share_out


def table(xs: Sequence[Tensor]) -> NDArray[np.int64]:
    """Where samples stand, for compiled loops; they must outlive it.

    Parameters
    ----------
    xs : sequence of tensors, shape (batch, cells, channels)
        Samples, whose channels stand side by side.

    Returns
    -------
    array of int64, shape (n, 4)
        Address, bytes from one sample and from one cell to the next, number of channels.

    Examples
    --------
    >>> table([torch.zeros(2, 5, 3)])[0, 1:].tolist()
    [60, 12, 3]
    """
    rows = [
        (x.data_ptr(), *(step * x.element_size() for step in x.stride()[:2]), x.shape[2])
        for x in xs
    ]
    return np.array(rows, np.int64).reshape(-1, 4)


def threads_for(n_items: int) -> int:
    """Torch's threads, or the caller's alone where there is no work to share.

    Parameters
    ----------
    n_items : int
        Items that can be done side by side.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> threads_for(1)
    1
    """
    return torch.get_num_threads() if n_items > 1 else 1


def run(name: str, arguments: Sequence[Any], n_threads: int) -> None:
    """Run a loop that is not over blocks in several threads.

    Parameters
    ----------
    name : str
        Of one of `xsphere.nn.sparse.loops`.
    arguments : sequence of int or array
        Entries of its call after the first; the address of an array stands for it.
    n_threads : int
        Number of threads.
    """
    from xsphere.nn.sparse.entries import loop

    share_out(loop(name), np.array([0, *map(_number, arguments)], np.int64), n_threads)


def _number(argument: Any) -> Any:
    return argument.ctypes.data if isinstance(argument, np.ndarray) else argument


@dataclass(frozen=True)
class Job:
    """Convolution of a batch of samples by a basis.

    Parameters
    ----------
    plan : Plan
        How it is cut up.
    xs : sequence of tensors of float32 or float64, shape (batch, n_source, channels)
        Samples; channels of several follow each other.
    """

    plan: Plan
    xs: Sequence[Tensor]

    @classmethod
    def of(cls, basis: Basis, xs: Sequence[Tensor], n_channels: int) -> "Job":
        """With the plan for a basis and so many channels.

        Parameters
        ----------
        basis : Basis
            The matrices.
        xs : sequence of tensors
            As for the class.
        n_channels : int
            Channels that are multiplied with the matrices.

        Returns
        -------
        Job
            To be run.
        """
        return cls(Plan.of(basis, n_channels, xs[0].dtype), xs)

    @property
    def basis(self) -> Basis:
        """The matrices."""
        return self.plan.basis

    @property
    def n_channels(self) -> int:
        """Channels that are multiplied with the matrices."""
        return self.plan.n_channels

    @property
    def n_items(self) -> int:
        """Blocks of all samples."""
        return len(self.xs[0]) * len(self.plan.blocks.parts)

    @property
    def is_whole(self) -> bool:
        """Whether all cells are better done at once: few, or in no order."""
        return self.plan.is_whole

    def groups(self, n_groups: int) -> NDArray[np.int64]:
        """First item of each of some groups of blocks, and the end."""
        ends = np.linspace(0, self.n_items, n_groups + 1)
        return ends.round().astype(np.int64)

    def share(self, loop: str, *arguments: Any, n_items: int, n_arrays: int) -> None:
        """Run a loop over blocks, in which each thread works in memory of its own.

        Parameters
        ----------
        loop : str
            Name of one of `xsphere.nn.sparse.loops`.
        *arguments : int or array
            What it takes besides what all loops do.
        n_items : int
            Items that it takes.
        n_arrays : int
            Arrays of a block's cells that it needs.
        """
        n_threads, of_thread = threads_for(n_items), n_arrays * self.plan.spacing
        memory = scratch(n_threads * of_thread)
        self._run(loop, (memory, of_thread, self.plan.spacing), arguments, n_threads)

    def whole(self, samples: range) -> Tensor:
        """All terms of all cells of some samples.

        Parameters
        ----------
        samples : range
            Their numbers.

        Returns
        -------
        tensor of float, shape (n_terms, n_samples * n_target, n_channels)
            Rows of one term stand side by side, but terms may stand apart.
        """
        n_rows = len(samples) * self.basis.matrices.shape[0]
        n_sums = n_rows // 4 if self.basis.children == "gathered" else 0
        terms = kept((self.basis.n_terms, n_rows + n_sums, self.n_channels), self.plan.dtype)
        places = terms.data_ptr(), terms[:, n_rows:].data_ptr() if n_sums else 0
        self._run(
            "expand_samples",
            (0, 0, terms.stride(0) * self.plan.dtype.itemsize),
            (samples.start, len(samples), *places),
            threads_for(len(samples) * -(-self.n_channels // WIDTH)),
        )
        return terms[:, n_rows:] if n_sums else terms

    def contract(self, products: Tensor, y: Tensor, scale: int, shift: int, rectify: bool) -> None:
        """Sum up the terms of every cell.

        Parameters
        ----------
        products : tensor of float, shape (n_samples, n_source, n_terms * n_channels)
            Channels of all terms side by side, of some samples.
        y : tensor of float, shape (n_samples, n_target, n_channels)
            Where sums go.
        scale, shift, rectify
            As of `xsphere.nn.sparse.products.Product`.
        """
        job, epilogue = Job(self.plan, [products]), (scale, shift, rectify)
        job.share("contract_blocks", table([y]), *epilogue, n_items=job.n_items, n_arrays=4)

    def _run(
        self, name: str, memory: tuple[int, int, int], arguments: Sequence[Any], n_threads: int
    ) -> None:
        """Make the call of a loop, and run it."""
        from xsphere.nn.sparse.entries import loop

        sources = table(self.xs)
        call = np.empty(records.N_SHARED + len(arguments), np.int64)
        call[: records.N_SHARED] = self.plan.record
        call[records.N_SHARED :] = [*map(_number, arguments)]
        call[records.SCRATCH], call[records.OF_THREAD], call[records.SPACING] = memory
        call[records.N_SAMPLES] = len(self.xs[0])
        call[records.SOURCES], call[records.N_SOURCES] = sources.ctypes.data, len(sources)
        share_out(loop(name), call, n_threads)
