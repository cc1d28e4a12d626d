"""Sparse products and convolutions as their formulas say, with dense matrices in float64."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


def dense_product(matrix: sparse.csr_array, x: Tensor) -> Tensor:
    """A matrix times the cells of every sample."""
    return torch.einsum("ts,bsc->btc", torch.from_numpy(matrix.toarray()), x.double())


def dense_terms(
    matrices: Sequence[sparse.csr_array],
    n_terms: int,
    children: str = "none",
    recursive: bool | None = None,
) -> list[Tensor]:
    """The matrices A_0, A_1, ... of a basis: Chebyshev polynomials of one, or as given."""
    first = matrices[0].toarray()
    if len(matrices) == 1 if recursive is None else recursive:
        terms = []
        for order in range(n_terms):
            # by coefficients and powers: no recursion, as the code under test has one
            coefficients = np.polynomial.chebyshev.cheb2poly([0] * order + [1])
            powers = (np.linalg.matrix_power(first, power) for power in range(order + 1))
            terms.append(sum(c * power for c, power in zip(coefficients, powers, strict=True)))
    else:
        terms = [np.eye(len(first)), *(matrix.toarray() for matrix in matrices)]
    parents = np.arange(len(first)) // 4
    copies = (parents[:, None] == np.arange(len(first) // 4)).astype(np.float64)
    if children == "spread":
        terms = [term @ copies for term in terms]
    elif children == "gathered":
        terms = [copies.T @ term for term in terms]
    return [torch.from_numpy(np.asarray(term, np.float64)) for term in terms]


def dense_convolution(terms: Sequence[Tensor], x: Tensor, weight: Tensor) -> Tensor:
    """``sum_k A_k x W_k``."""
    parts = (
        torch.einsum("ts,bsi,io->bto", term, x.double(), factors.double())
        for term, factors in zip(terms, weight, strict=True)
    )
    return torch.stack(list(parts)).sum(0)


def dense_gradients(
    terms: Sequence[Tensor], x: Tensor, weight: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the samples and of the weights, by torch's own rules for dense products."""
    x, weight = (tensor.detach().double().requires_grad_() for tensor in (x, weight))
    y = dense_convolution(terms, x, weight)
    of_x, of_weight = torch.autograd.grad(y, [x, weight], gradient.double())
    return of_x, of_weight
