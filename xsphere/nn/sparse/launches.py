"""Launches of the kernels for GPUs: what each makes, and of which arrays.

The only module that knows the arguments of `xsphere.nn.sparse.kernels`. Nothing here allocates.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xsphere.nn.sparse.epilogue import Epilogue
from xsphere.nn.sparse.matrices import FixedMatrices

WIDEST_TILE = 128
# of a kernel that makes terms: it should make them once for all channels of the result
WIDEST_FUSED = 256
NOTHING = Epilogue()
# Triton keeps the arguments of a launch in the kernel while it tries block sizes
_launching = threading.RLock()
# products and sums in one instruction; what Triton does unless told so changes with its version
OPTIONS = {"enable_fp_fusion": True}


class Cells(NamedTuple):
    """An array of the cells of samples, or of their parents.

    Parameters
    ----------
    array : tensor of float, shape (batch, cells, channels)
        Channels of a cell follow each other in memory.
    shift : int
        Bits by which a cell's number is shifted to get its place: 2 where parents are stored.
    """

    array: Tensor
    shift: int = 0


def sum_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which elements of a type are summed.

    Parameters
    ----------
    dtype : torch.dtype
        Of elements.

    Returns
    -------
    torch.dtype
        float64 for float64, else float32.

    Examples
    --------
    >>> sum_type(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def weigh(
    matrices: FixedMatrices,
    x: Cells | None,
    *,
    which: slice = slice(0, 1),
    scale: int = 1,
    plus: Cells | None = None,
    minus: Cells | None = None,
    out: Tensor | None = None,
    sums: Tensor | None = None,
    epilogue: Epilogue = NOTHING,
) -> None:
    """Writes ``scale * sum_m A_m x_m + plus - minus``, one order of a recursion.

    Parameters
    ----------
    matrices : FixedMatrices
        The matrices, of which some are used.
    x : Cells, optional
        Samples x_m; those of several matrices are side by side. None leaves the product away.
    which : slice
        Of the matrices, those used.
    scale : int
        Factor of the product.
    plus, minus : Cells, optional
        What is added and subtracted.
    out : tensor, shape (batch, n_target, channels), optional
        Where the result goes; channels of a cell follow each other.
    sums : tensor, shape (batch, n_target / 4, channels), optional
        Where its sums over the four children of each parent go.
    epilogue : Epilogue
        What is done to the sums if they are wanted, else to the result.
    """
    from xsphere.nn.sparse import kernels

    like = next(array for array in (out, sums) if array is not None)
    n_samples, _, n_channels = like.shape
    n_rows, wide = matrices.shape[0], _power_of_two(n_channels, most=WIDEST_TILE)
    dtype = sum_type(like.dtype)
    indptr, indices, values = matrices.entries(like.device, dtype)
    values = values[which]
    arrays = [None if cells is None else cells.array for cells in (x, plus, minus)]
    shifts = [0 if cells is None else cells.shift for cells in (x, plus, minus)]
    with _launching:
        kernels.weigh[_grid(n_samples, n_rows, -(-n_channels // wide))](
            indptr, indices, values, *arrays, out, sums, epilogue.scale, epilogue.shift,
            n_samples, n_rows, n_channels, values.shape[1],
            *_strides(arrays[0]), n_channels, *_strides(arrays[1]), *_strides(arrays[2]),
            *_strides(out), *_strides(sums),
            X_SHIFT=shifts[0], PLUS_SHIFT=shifts[1], MINUS_SHIFT=shifts[2],
            N_MATRICES=len(values), SCALE=scale, RECTIFY=epilogue.rectify,
            SUM=kernels.sum_type(dtype == torch.float64), BLOCK_CHANNELS=wide,
            **OPTIONS,
        )  # fmt: skip


def mix(
    matrices: FixedMatrices,
    xs: list[Tensor],
    terms: Tensor | None,
    weight: Tensor,
    y: Tensor,
    *,
    n_made: int,
    epilogue: Epilogue = NOTHING,
) -> None:
    """Writes ``sum_k A_k x W_k``: of the samples, of their stored terms, and of terms it makes.

    Parameters
    ----------
    matrices : FixedMatrices
        What terms are made by.
    xs : list of one or two tensors of float, shape (batch, n_source, channels)
        Samples, contiguous, of float32 or less; channels of both follow each other.
    terms : tensor of float, shape (n_stored, batch, n_cells, channels_in), optional
        Terms after the first, contiguous.
    weight : tensor of float, shape (n_terms, channels_in, channels_out)
        Weights of all terms, contiguous; or, of one term alone, without the first dimension.
    y : tensor of float, shape (batch, n_target, channels_out)
        Where the result goes, contiguous. Four times as many cells as the samples' are their
        children, a quarter are their parents, which get sums.
    n_made : int
        Terms that are made and never stored: one order more of the recursion where terms are
        stored, else products of so many matrices with the samples.
    epilogue : Epilogue
        What is done to the result.
    """
    from xsphere.nn.sparse import kernels

    indptr, indices, values = matrices.entries(y.device, torch.float32)
    n_samples, n_rows, n_out = y.shape
    n_source = xs[0].shape[1]
    wide = _power_of_two(n_out, most=WIDEST_FUSED if n_made else WIDEST_TILE)
    x1 = xs[1] if len(xs) == 2 else None
    with _launching:
        kernels.mix[_grid(n_samples, n_rows, -(-n_out // wide))](
            indptr, indices, values, xs[0], x1, terms, weight, y, epilogue.scale, epilogue.shift,
            n_samples, n_rows, n_source, matrices.shape[0], values.shape[1],
            0 if terms is None else terms.stride(0),
            xs[0].shape[2], 0 if x1 is None else x1.shape[2], n_out,
            SHIFT=2 if n_rows == 4 * n_source else 0,
            CHILDREN=4 if n_source == 4 * n_rows else 1,
            N_STORED=0 if terms is None else len(terms), N_MADE=n_made,
            RECTIFY=epilogue.rectify, PRECISION=_precision(),
            IS_INTERPRETED=kernels.IS_INTERPRETED, BLOCK_OUT=wide,
            **OPTIONS,
        )  # fmt: skip


def _strides(array: Tensor | None) -> tuple[int, int]:
    return (0, 0) if array is None else (array.stride(0), array.stride(1))


def _power_of_two(n: int, *, most: int) -> int:
    """The least power of two, of 16 and more, that is not less than `n`, or `most`."""
    return min(most, max(16, 1 << (n - 1).bit_length()))


def _grid(n_samples: int, n_rows: int, n_tiles: int) -> Callable[[dict[str, Any]], tuple[int]]:
    def programs(sizes: dict[str, Any]) -> tuple[int]:
        return (-(-n_rows // int(sizes["BLOCK_ROWS"])) * n_samples * n_tiles,)

    return programs


def _precision() -> str:
    """How float32 is multiplied: as PyTorch was told to, exactly unless TF32 is allowed."""
    products = torch.backends.cuda.matmul
    # to ask the older way is an error where the newer one was used
    setting = getattr(products, "fp32_precision", None)
    allowed = products.allow_tf32 if setting is None else setting == "tf32"
    return "tf32" if allowed else "ieee"
