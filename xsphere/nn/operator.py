"""One sparse operator: a fixed matrix applied to the cells of every sample and channel."""

from scipy import sparse
from torch import Tensor, nn

from xsphere.nn.sparse.functional import product
from xsphere.nn.sparse.matrices import Basis, Children, FixedMatrices, numbered_basis


class SparseOperator(nn.Module):
    """A fixed sparse matrix that acts on the cells of its input.

    The matrix is data, not a parameter: every device gets its own copy when samples on it first
    come, copies of a network share it, and no checkpoint holds it. It is applied in the type of the
    samples, with sums of float32 at least; gradients are products with the transposed matrix.

    Parameters
    ----------
    matrix : sparse array, shape (n_target, n_source)
        Any real matrix, symmetric or not.

    Examples
    --------
    >>> import torch
    >>> swap = SparseOperator(sparse.csr_array([[0.0, 1.0], [1.0, 0.0]]))
    >>> swap(torch.tensor([[[1.0], [2.0]]])).tolist()
    [[[2.0], [1.0]]]
    >>> list(swap.state_dict())
    []
    """

    def __init__(self, matrix: sparse.csr_array) -> None:
        super().__init__()
        self.matrices = FixedMatrices([matrix])

    @property
    def shape(self) -> tuple[int, int]:
        """(n_target, n_source)."""
        return self.matrices.shape

    @property
    def is_symmetric(self) -> bool:
        """Whether the matrix is its own transpose, to the last bit."""
        return self.matrices.is_symmetric

    def chebyshev(self, n_terms: int, children: Children = "none") -> Basis:
        """Chebyshev polynomials of the matrix, as a basis of convolutions.

        Parameters
        ----------
        n_terms : int
            Number of polynomials.
        children : {"none", "spread", "gathered"}
            As for `xsphere.nn.sparse.matrices.Basis`.

        Returns
        -------
        Basis
            The same one at every call.

        Examples
        --------
        >>> swap = SparseOperator(sparse.csr_array([[0.0, 1.0], [1.0, 0.0]]))
        >>> swap.chebyshev(4).n_terms
        4
        """
        basis: Basis = numbered_basis(self.matrices.number, n_terms, True, children)
        return basis

    def forward(self, x: Tensor) -> Tensor:
        """Product with every sample: (batch, n_source, channels) to (batch, n_target, channels)."""
        return product(self.matrices, x)

    def extra_repr(self) -> str:
        """What `repr` says of the matrix."""
        return f"shape={self.shape}"
