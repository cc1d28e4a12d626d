"""Operators of any kind as one: a function of an array (n_cells, n_channels)."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from xsphere.grids import Grid

Floats = NDArray[np.float64]
Apply = Callable[[Floats], Floats]


def normalize_operator(operator: Any, grid: Grid) -> Any:
    """An operator as a float64 matrix in CSR form, or as the callable that it is.

    Parameters
    ----------
    operator : sparse matrix, torch module or callable
        As `equivariance_error` takes it.
    grid : Grid
        Its cells are the rows and columns of a matrix.

    Returns
    -------
    csr_array or callable
        Modules are callables.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If a matrix has another shape or weights that are not finite.

    Examples
    --------
    >>> from xsphere.grids import HealpixGrid
    >>> normalize_operator(sparse.eye_array(12), HealpixGrid(0)).dtype
    dtype('float64')
    """
    if not is_matrix(operator):
        if not callable(operator):
            raise TypeError(
                "operator must be a sparse matrix (target, source), a callable or a torch module, "
                f"got {type(operator).__name__}; give the laplacian of a graph, or "
                "scipy.sparse.csr_array of a dense array"
            )
        return operator
    expected = (grid.n_cells, grid.n_cells)
    if operator.shape != expected:
        raise ValueError(
            f"operator must have shape {expected}, one row and column a cell of {grid!r}, got "
            f"{operator.shape}"
        )
    matrix = sparse.csr_array(operator, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    bad = int((~np.isfinite(matrix.data)).sum())
    if bad:
        raise ValueError(f"operator must have finite weights, got {bad} that are not")
    return matrix


@contextmanager
def applied(operator: Any, *, n_cells: int, output: str) -> Iterator[Apply]:
    """Function that applies an operator to an array (n_cells, n_channels) and checks its output.

    A torch module is in evaluation mode meanwhile, and as it was afterwards; its gradients are
    not recorded.

    Parameters
    ----------
    operator : csr_array, torch module or callable
        As `normalize_operator` gives it.
    n_cells : int
        Cells of the output, if it has any.
    output : {"cells", "global"}
        Whether outputs have shape (n_cells, n_out_channels), or no cells.

    Yields
    ------
    callable
        From float64 of shape (n_cells, n_channels) to float64 of the output's shape. Raises
        ValueError if the output has another shape, or values that are not finite.

    Examples
    --------
    >>> with applied(sparse.eye_array(3), n_cells=3, output="cells") as apply:
    ...     apply(np.ones((3, 1))).shape
    (3, 1)
    """
    with _function(operator) as function:

        def apply(fields: Floats) -> Floats:
            result = np.asarray(function(fields), np.float64)
            _check_output(result, n_cells=n_cells, output=output)
            return result

        yield apply


def is_matrix(operator: Any) -> bool:
    """Whether an operator is a sparse matrix or array of SciPy.

    Parameters
    ----------
    operator : object
        Anything.

    Returns
    -------
    bool
        False for a dense array.

    Examples
    --------
    >>> is_matrix(sparse.eye_array(2)), is_matrix(np.eye(2))
    (True, False)
    """
    return bool(sparse.issparse(operator))


def is_module(operator: Any) -> bool:
    """Whether an operator is a torch module; torch is not imported to find out.

    Parameters
    ----------
    operator : object
        Anything.

    Returns
    -------
    bool
        False where torch was never imported.

    Examples
    --------
    >>> is_module(np.sin)
    False
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(operator, torch.nn.Module)


@contextmanager
def _function(operator: Any) -> Iterator[Callable[[Floats], Any]]:
    if is_matrix(operator):
        yield operator.__matmul__
    elif is_module(operator):
        with _evaluating(operator) as function:
            yield function
    else:
        # what a callable does to its argument stays its own affair
        yield lambda fields: operator(fields.copy())


@contextmanager
def _evaluating(module: Any) -> Iterator[Callable[[Floats], Any]]:
    import torch

    tensors = (*module.parameters(), *module.buffers())
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0, dtype=torch.float64))

    def function(fields: Floats) -> Any:
        sample = torch.as_tensor(fields, dtype=like.dtype, device=like.device)
        with torch.no_grad():
            return module(sample[None])[0].double().cpu().numpy()

    # every part apart: some may be frozen in evaluation mode for good
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield function
    finally:
        for part, training in modes:
            part.training = training


def _check_output(result: Floats, *, n_cells: int, output: str) -> None:
    if output == "cells" and (result.ndim != 2 or result.shape[0] != n_cells):
        raise ValueError(
            f"operator must return an array of shape ({n_cells}, n_out_channels), got "
            f"{result.shape}; use output='global' for outputs without cells"
        )
    if output == "global" and result.ndim > 1:
        raise ValueError(
            "operator must return one vector (n_out_channels,) for each sample, got an array of "
            f"shape {result.shape}; use output='cells' for values on cells"
        )
    bad = int((~np.isfinite(result)).sum())
    if bad:
        raise ValueError(
            f"operator must return finite values, got {bad} of {result.size} that are not"
        )
