"""Where the samples of a convolution stand: cells of their sources, channels of each."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from torch import Tensor

from xsphere.nn.sparse.matrices import Basis


def source_shift(basis: Basis) -> int:
    """Bits by which the number of a cell is shifted to get that of its source.

    Parameters
    ----------
    basis : Basis
        The matrices.

    Returns
    -------
    int
        2 where sources are parents, else 0.

    Examples
    --------
    >>> from scipy import sparse
    >>> from xsphere.nn.sparse.matrices import FixedMatrices
    >>> matrices = FixedMatrices([sparse.eye_array(4).tocsr()])
    >>> source_shift(Basis.of(matrices, n_terms=2, children="spread"))
    2
    """
    return 2 if basis.children == "spread" else 0


def channels_of(xs: Sequence[Tensor]) -> list[slice]:
    """Which of all channels each source has, where they follow each other.

    Parameters
    ----------
    xs : sequence of tensors, shape (batch, cells, channels)
        The sources.

    Returns
    -------
    list of slice
        One for each.

    Examples
    --------
    >>> import torch
    >>> channels_of([torch.zeros(1, 4, 2), torch.zeros(1, 4, 3)])
    [slice(0, 2, None), slice(2, 5, None)]
    """
    ends = accumulate((x.shape[2] for x in xs), initial=0)
    return [slice(*pair) for pair in pairwise(ends)]
