"""Graph convolutions: by Chebyshev polynomials of the Laplacian, or by derivatives along axes."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from xsphere.nn.operator import SparseOperator
from xsphere.nn.pooling import unpool
from xsphere.nn.sparse.functional import convolve
from xsphere.nn.sparse.matrices import Basis, Children, FixedMatrices, numbered_basis

_generator: ContextVar[torch.Generator | None] = ContextVar("xsphere_generator", default=None)


@contextmanager
def drawn_with(seed: int) -> Iterator[None]:
    """Draw the weights of layers that are made inside from a generator of their own.

    Torch's generator, which all threads share, is neither asked nor changed.

    Parameters
    ----------
    seed : int
        Of the generator.

    Examples
    --------
    >>> with drawn_with(seed=0):
    ...     layer = ChebConv(2, 3, 4, SparseOperator(sparse.eye_array(12).tocsr()))
    """
    token = _generator.set(torch.Generator().manual_seed(seed))
    try:
        yield
    finally:
        _generator.reset(token)


class GraphConv(nn.Module):
    """Convolution ``y = sum_k A_k x W_k + b`` by fixed matrices A_k; A_0 is the identity.

    The base of `ChebConv` and `DirectionalConv`, which say what the matrices are.

    Parameters
    ----------
    in_channels, out_channels, n_terms : int
        Channels of input and output, and number of matrices.
    gain : float
        Sum over the matrices of the mean square that each makes of random values of mean square 1:
        new weights are drawn by it.
    bias : bool
        Whether to add a constant to every output channel.

    Examples
    --------
    >>> layer = ChebConv(2, 3, 4, SparseOperator(sparse.eye_array(12).tocsr()))
    >>> isinstance(layer, GraphConv), layer.basis("none").n_terms
    (True, 4)
    """

    def __init__(
        self, in_channels: int, out_channels: int, n_terms: int, *, gain: float, bias: bool = True
    ) -> None:
        super().__init__()
        self._gain = gain
        self.weight = nn.Parameter(torch.empty(n_terms, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def basis(self, children: Children) -> Basis:
        """The matrices, between cells or between parents and cells."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw new weights that keep the variance of a signal through a ReLU."""
        in_channels = self.weight.shape[1]
        std = math.sqrt(2 / (in_channels * self._gain))
        nn.init.normal_(self.weight, std=std, generator=_generator.get())
        if self.bias is not None:
            nn.init.constant_(self.bias, 0.01)

    def forward(self, *xs: Tensor, spread: bool = False) -> Tensor:
        """Filtered samples: (batch, cells, in_channels) to (batch, cells, out_channels).

        Channels of several inputs follow each other, without being put together. With `spread`,
        inputs are on the parents of the cells and count for all four children, as after `unpool`,
        but with a quarter of the work.
        """
        return self.filtered(xs, spread=spread, shift=self.bias)

    def filtered(
        self,
        xs: Sequence[Tensor],
        *,
        spread: bool = False,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        rectified: bool = False,
    ) -> Tensor:
        """Filtered samples without the bias, but scaled, shifted and rectified.

        Parameters
        ----------
        xs : sequence of tensors of float, shape (batch, cells, channels)
            Samples, whose channels follow each other.
        spread : bool
            Whether the samples are on the parents of the cells.
        scale, shift : tensors of float, shape (out_channels,), optional
            Factor and summand of each channel; a factor is for inference, without gradients.
        rectified : bool
            Whether negative results become zero; for inference too.

        Returns
        -------
        tensor of float, shape (batch, cells, out_channels)
            The result.

        Examples
        --------
        >>> from scipy import sparse
        >>> layer = ChebConv(2, 4, 3, SparseOperator(sparse.eye_array(12).tocsr()))
        >>> with torch.no_grad():
        ...     y = layer.filtered([torch.randn(1, 12, 2)], rectified=True)
        >>> bool((y >= 0).all())
        True
        """
        n_terms = len(self.weight)
        if n_terms > 1:
            basis = self.basis("spread" if spread else "none")
            return convolve(basis, xs, self.weight, scale=scale, shift=shift, rectified=rectified)
        y = _pointwise(xs, self.weight[0])
        dtype = y.dtype
        y = y if scale is None else y * scale
        y = y if shift is None else y + shift
        y = (y.relu() if rectified else y).to(dtype)
        return unpool(y) if spread else y

    def extra_repr(self) -> str:
        """What `repr` says of the sizes."""
        n_terms, in_channels, out_channels = self.weight.shape
        return f"{in_channels}, {out_channels}, n_terms={n_terms}"


class ChebConv(GraphConv):
    """Convolution by a polynomial of the graph Laplacian, linear in the number of cells.

    ``y = sum_k T_k(L) x W_k + b`` with the Chebyshev polynomials T_k [1]_: the filter is a function
    of the Laplacian's eigenvalues alone, so it commutes with rotations as far as the graph does.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    kernel_size : int
        Number K of polynomial terms. 1 is a product with no neighbours.
    laplacian : SparseOperator
        Laplacian scaled to a spectrum in [-1, 1]; may be shared between layers. Ignored if
        `kernel_size` is 1.
    bias : bool
        Whether to add a constant to every output channel.

    Raises
    ------
    ValueError
        If a size is less than 1.

    References
    ----------
    .. [1] Defferrard et al. (2016), https://arxiv.org/abs/1606.09375

    Examples
    --------
    >>> from xsphere.graph import SphereGraph
    >>> from xsphere.grids import HealpixGrid
    >>> laplacian = SparseOperator(SphereGraph(HealpixGrid(1), k=8).scaled_laplacian)
    >>> layer = ChebConv(3, 5, kernel_size=4, laplacian=laplacian)
    >>> layer(torch.zeros(2, 48, 3)).shape
    torch.Size([2, 48, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        laplacian: SparseOperator,
        *,
        bias: bool = True,
    ) -> None:
        _check_sizes(
            "ChebConv",
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
        )
        # of eigenvalues spread evenly over [-1, 1], of which T_k makes the mean square 1/2
        gain = (kernel_size + 0.5) / 2
        super().__init__(in_channels, out_channels, kernel_size, gain=gain, bias=bias)
        self.laplacian = laplacian

    def basis(self, children: Children) -> Basis:
        """Chebyshev polynomials of the Laplacian."""
        return self.laplacian.chebyshev(len(self.weight), children)


class DirectionalOperator(nn.Module):
    """Derivatives along east and north, and the Laplacian, on the cells of a grid.

    Parameters
    ----------
    laplacian : sparse array, shape (n_cells, n_cells)
        Scaled Laplacian.
    directions : sequence of sparse arrays, each of shape (n_cells, n_cells)
        Derivatives, such as the first four matrices of `xsphere.graph.directional_matrices`.

    Examples
    --------
    >>> identity = sparse.eye_array(12).tocsr()
    >>> DirectionalOperator(identity, [identity] * 4).n_terms
    6
    """

    def __init__(self, laplacian: sparse.csr_array, directions: Sequence[sparse.csr_array]) -> None:
        super().__init__()
        self.matrices = FixedMatrices([*directions, laplacian])
        mean_squares = np.square(self.matrices.values).sum(1) / self.matrices.shape[0]
        self.gain = 1.0 + float(mean_squares.sum())

    @property
    def n_terms(self) -> int:
        """Number of matrices, the identity included."""
        return self.matrices.n_matrices + 1

    def basis(self, children: Children = "none") -> Basis:
        """The matrices, as a basis of convolutions; the same one at every call."""
        basis: Basis = numbered_basis(self.matrices.number, self.n_terms, False, children)
        return basis


class DirectionalConv(GraphConv):
    """Convolution over the neighbours of each cell that tells east from north.

    ``y = x W_0 + sum_j D_j x W_j + L x W_5 + b`` with the slopes to the east and to the north, both
    kinds of curvature and the Laplacian: the weights can learn vorticity, or the tilt of a front,
    which no function of the Laplacian can. It commutes with rotations about the Earth's axis as far
    as the grid does, and with no others [1]_.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    operator : DirectionalOperator
        The derivatives; may be shared between layers.
    bias : bool
        Whether to add a constant to every output channel.

    Raises
    ------
    ValueError
        If a size is less than 1.

    References
    ----------
    .. [1] Jiang et al. (2019), https://arxiv.org/abs/1901.02039

    Examples
    --------
    >>> from xsphere.graph import SphereGraph, directional_matrices
    >>> from xsphere.grids import HealpixGrid
    >>> grid = HealpixGrid(2)
    >>> directions = directional_matrices(grid)[:4]
    >>> operator = DirectionalOperator(SphereGraph(grid).scaled_laplacian, directions)
    >>> DirectionalConv(3, 5, operator)(torch.zeros(2, 192, 3)).shape
    torch.Size([2, 192, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        operator: DirectionalOperator,
        *,
        bias: bool = True,
    ) -> None:
        _check_sizes("DirectionalConv", in_channels=in_channels, out_channels=out_channels)
        n_terms, gain = operator.n_terms, operator.gain
        super().__init__(in_channels, out_channels, n_terms, gain=gain, bias=bias)
        self.operator = operator

    def basis(self, children: Children) -> Basis:
        """Derivatives and Laplacian."""
        return self.operator.basis(children)


def graph_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    operator: SparseOperator | DirectionalOperator,
    *,
    bias: bool = True,
) -> GraphConv:
    """Convolution of the kind that an operator is made for.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    kernel_size : int
        Polynomial terms of a `ChebConv`.
    operator : SparseOperator or DirectionalOperator
        Scaled Laplacian, or derivatives.
    bias : bool
        Whether to add a constant to every output channel.

    Returns
    -------
    ChebConv or DirectionalConv
        With random weights.

    Examples
    --------
    >>> graph_conv(2, 3, 4, SparseOperator(sparse.eye_array(12).tocsr()))
    ChebConv(
      2, 3, n_terms=4
      (laplacian): SparseOperator(shape=(12, 12))
    )
    """
    if isinstance(operator, DirectionalOperator):
        return DirectionalConv(in_channels, out_channels, operator, bias=bias)
    return ChebConv(in_channels, out_channels, kernel_size, operator, bias=bias)


def _check_sizes(layer: str, **sizes: int) -> None:
    wrong = {name: size for name, size in sizes.items() if size < 1}
    if wrong:
        raise ValueError(f"sizes of {layer} must be at least 1, got {wrong}")


def _pointwise(xs: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Products of the channels of each cell with weights."""
    parts = torch.split(weight, [x.shape[-1] for x in xs])
    y = xs[0].new_zeros(())
    for x, part in zip(xs, parts, strict=True):
        # products of one sample's shape only, so that results do not depend on the batch
        whole = _is_lenient(x) or len(x) < 2
        y = y + (x @ part if whole else torch.stack([sample @ part for sample in x]))
    return y


def _is_lenient(x: Tensor) -> bool:
    """Whether the last bits of a sample may depend on the others of its batch."""
    return x.device.type != "cpu" or torch.is_grad_enabled()
