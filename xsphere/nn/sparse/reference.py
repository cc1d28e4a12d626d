"""The plain way: what the fast paths are held against, and what devices without one use.

Differentiable by torch itself, as often as is wanted, in any floating type, on any device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from xsphere.nn.sparse.epilogue import Epilogue
from xsphere.nn.sparse.matrices import Basis, FixedMatrices


def terms(basis: Basis, x: Tensor) -> list[Tensor]:
    """Each matrix of a basis times the samples.

    Parameters
    ----------
    basis : Basis
        The matrices.
    x : tensor of float, shape (batch, n_source, channels)
        Samples.

    Returns
    -------
    list of tensors of float, shape (batch, n_target, channels)
        One for each term, the first the samples themselves or their copies or sums.
    """
    if basis.children == "spread":
        x = x.repeat_interleave(4, dim=1)
    results = [x]
    for term in range(1, basis.n_terms):
        if not basis.recursive:
            results.append(product(basis.matrices, x, term - 1))
        elif term == 1:
            results.append(product(basis.matrices, x))
        else:
            results.append(2 * product(basis.matrices, results[-1]) - results[-2])
    if basis.children == "gathered":
        results = [result.view(len(x), -1, 4, x.shape[2]).sum(2) for result in results]
    return results


def convolve(basis: Basis, xs: Sequence[Tensor], weight: Tensor, epilogue: Epilogue) -> Tensor:
    """Sum over terms of each matrix times the samples times its weights.

    Parameters
    ----------
    basis : Basis
        The matrices.
    xs : sequence of tensors of float, shape (batch, n_source, channels)
        Samples; channels of several follow each other.
    weight : tensor of float, shape (n_terms, channels_in, channels_out)
        Weights, for the channels of all.
    epilogue : Epilogue
        What is done to the result.

    Returns
    -------
    tensor of float, shape (batch, n_target, channels_out)
        Of the type of the samples.
    """
    x = torch.cat(list(xs), dim=-1)
    pairs = zip(terms(basis, x), weight, strict=True)
    y = sum((term @ factors for term, factors in pairs), start=x.new_zeros(()))
    if epilogue.scale is not None:
        y = y * epilogue.scale
    if epilogue.shift is not None:
        y = y + epilogue.shift
    return (y.relu() if epilogue.rectify else y).to(x.dtype)


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
    of_xs, of_weight = None, None
    if need_x:
        of_x = convolve(basis.transposed, [gradient], weight.transpose(1, 2), Epilogue())
        of_xs = [part.contiguous() for part in torch.split(of_x, [x.shape[2] for x in xs], dim=2)]
    if need_weight:
        x = torch.cat(list(xs), dim=2).flatten(0, 1)
        each = terms(basis.transposed, gradient)
        of_weight = torch.stack([x.T @ term.flatten(0, 1) for term in each])
    return of_xs, of_weight


def product(matrices: FixedMatrices, x: Tensor, number: int = 0) -> Tensor:
    """Product of a matrix with every sample.

    Parameters
    ----------
    matrices : FixedMatrices
        Matrices.
    x : tensor of float, shape (batch, n_source, channels)
        Samples.
    number : int
        Which of the matrices.

    Returns
    -------
    tensor of float, shape (batch, n_target, channels)
        Of the type of the samples; sums are of float32 at least.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    indptr, indices, values = matrices.entries(x.device, dtype)
    n_target = matrices.shape[0]
    rows = torch.repeat_interleave(
        torch.arange(n_target, device=x.device), indptr.diff(), output_size=len(indices)
    )
    weighed = x[:, indices].to(dtype) * values[number][:, None]
    y = weighed.new_zeros((len(x), n_target, x.shape[2]))
    return y.index_add(1, rows, weighed).to(x.dtype)
