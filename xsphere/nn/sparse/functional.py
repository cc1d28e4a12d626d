"""Convolutions and sparse products as operators of torch, by whatever is fastest on their device.

Gradients of a convolution are convolutions by the transposed matrices and products of the same
kind, so they can be taken any number of times. To torch all this is opaque: it compiles around it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from xsphere.nn.sparse import cpu, reference
from xsphere.nn.sparse.epilogue import Epilogue
from xsphere.nn.sparse.matrices import Basis, FixedMatrices


def convolve(
    basis: Basis,
    xs: Sequence[Tensor],
    weight: Tensor,
    *,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    rectified: bool = False,
) -> Tensor:
    """Convolution ``y = sum_k A_k x W_k``, scaled, shifted and rectified where that is asked for.

    Parameters
    ----------
    basis : Basis
        The matrices A_k.
    xs : sequence of tensors of float, shape (batch, n_source, channels)
        Samples; channels of several follow each other, but are never put together.
    weight : tensor of float, shape (n_terms, channels_in, channels_out)
        Weights W_k, for the channels of all.
    scale, shift : tensors of float, shape (channels_out,), optional
        Factor and summand of each channel of the result.
    rectified : bool
        Whether negative results become zero.

    Returns
    -------
    tensor of float, shape (batch, n_target, channels_out)
        In the type of the samples, or that of autocast; sums are of float32 at least.

    Raises
    ------
    ValueError
        If shapes, types or devices do not fit; everything wrong is named.
    RuntimeError
        At the backward pass, if results were scaled or rectified: these are for inference.

    Examples
    --------
    >>> import scipy.sparse
    >>> swap = FixedMatrices([scipy.sparse.csr_array([[0.0, 1.0], [1.0, 0.0]])])
    >>> x, weight = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[1.0]], [[10.0]]])
    >>> convolve(Basis.of(swap, n_terms=2), [x], weight).flatten().tolist()
    [21.0, 12.0]
    """
    if not xs:
        raise ValueError("a convolution needs samples, got no samples")
    *inputs, weight = _autocast([*xs, weight])
    _check(basis, inputs, weight, scale, shift)
    y: Tensor = _convolve(
        [x.contiguous() for x in inputs],
        weight,
        basis.number,
        basis.n_target,
        scale,
        shift,
        rectified,
    )
    return y


def product(matrices: FixedMatrices, x: Tensor) -> Tensor:
    """Product of a matrix with every sample.

    Parameters
    ----------
    matrices : FixedMatrices
        A single matrix.
    x : tensor of float, shape (batch, n_source, channels)
        Samples.

    Returns
    -------
    tensor of float, shape (batch, n_target, channels)
        In the type of the samples; sums are of float32 at least.

    Raises
    ------
    ValueError
        If there are several matrices, or `x` has other cells or is not of a floating type.

    Examples
    --------
    >>> import scipy.sparse
    >>> double = FixedMatrices([scipy.sparse.csr_array([[2.0]])])
    >>> product(double, torch.ones(1, 1, 3)).tolist()
    [[[2.0, 2.0, 2.0]]]
    """
    if matrices.n_matrices != 1 or x.ndim != 3 or x.shape[1] != matrices.shape[1]:
        raise ValueError(
            f"a product takes one matrix, got {matrices.n_matrices}, and samples of shape (batch, "
            f"{matrices.shape[1]}, channels), got {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(f"a product takes samples of a floating type, got {x.dtype}")
    y: Tensor = _product(x.contiguous(), matrices.number, matrices.shape[0])
    return y


def _autocast(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors in the type of autocast, where it is on; it leaves float64 alone, as torch's does."""
    device = tensors[0].device.type
    if not _has_autocast(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [
        tensor.to(dtype) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor
        for tensor in tensors
    ]


def _check(
    basis: Basis, xs: Sequence[Tensor], weight: Tensor, scale: Tensor | None, shift: Tensor | None
) -> None:
    problems = [
        f"samples of shape {tuple(x.shape)}, not (batch, {basis.n_source}, channels)"
        for x in xs
        if x.ndim != 3 or x.shape[1] != basis.n_source or len(x) != len(xs[0])
    ]
    n_channels = sum(x.shape[-1] if x.ndim else 0 for x in xs)
    if weight.ndim != 3 or weight.shape[:2] != (basis.n_terms, n_channels):
        problems.append(
            f"weights of shape {tuple(weight.shape)}, not ({basis.n_terms}, {n_channels}, "
            "channels_out)"
        )
    elif not weight.numel():
        problems.append(f"weights of shape {tuple(weight.shape)}, none at all")
    problems.extend(
        f"{name} of shape {tuple(values.shape)} on {values.device}, not ({weight.shape[-1]},) on "
        f"{weight.device}"
        for name, values in (("scale", scale), ("shift", shift))
        if values is not None
        and (values.shape != weight.shape[-1:] or values.device != weight.device)
    )
    kinds = {(tensor.dtype, tensor.device) for tensor in (*xs, weight)}
    if len(kinds) > 1 or not weight.dtype.is_floating_point:
        names = sorted(f"{dtype} on {device}" for dtype, device in kinds)
        problems.append(f"types {', '.join(names)}, not one floating type on one device")
    if problems:
        raise ValueError(f"a convolution got {'; '.join(problems)}")


class _Backend(Protocol):
    """What an implementation has."""

    convolve: Any
    adjoint: Any
    product: Any


@cache
def _on_gpus() -> _Backend | None:
    """The implementation for GPUs, where Triton is installed."""
    from xsphere.nn.sparse import gpu

    return gpu if gpu.is_available() else None


def _backend(x: Tensor) -> _Backend | None:
    """The fast implementation for a device; None where there is only the plain one."""
    if x.device.type == "cpu":
        return cpu
    return _on_gpus() if x.device.type == "cuda" else None


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """In which what implementations do has the types that they chose."""
    return torch.autocast(device, enabled=False) if _has_autocast(device) else nullcontext()


def _has_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


@torch.library.custom_op("xsphere::convolve", mutates_args=())
def _convolve(
    xs: list[Tensor],
    weight: Tensor,
    number: int,
    n_target: int,
    scale: Tensor | None,
    shift: Tensor | None,
    rectify: bool,
) -> Tensor:
    # rounding a shift would move whole channels
    wide = torch.promote_types(weight.dtype, torch.float32)
    epilogue = Epilogue(scale, shift, rectify).to(wide)
    with _no_autocast(weight.device.type):
        backend = _backend(weight) or reference
        y: Tensor = backend.convolve(Basis.numbered(number), xs, weight, epilogue)
        return y


@_convolve.register_fake
def _(
    xs: list[Tensor],
    weight: Tensor,
    number: int,
    n_target: int,
    scale: Tensor | None,
    shift: Tensor | None,
    rectify: bool,
) -> Tensor:
    # of the arguments alone: what torch compiles may outlive this process
    return xs[0].new_empty((len(xs[0]), n_target, weight.shape[2]))


@torch.library.custom_op("xsphere::convolve_adjoint", mutates_args=())
def _adjoint(
    xs: list[Tensor],
    weight: Tensor,
    gradient: Tensor,
    number: int,
    need_x: bool,
    need_weight: bool,
) -> list[Tensor]:
    basis = Basis.numbered(number)
    with _no_autocast(weight.device.type):
        backend = _backend(weight) or reference
        of_xs, of_weight = backend.adjoint(
            basis, xs, weight, gradient, need_x=need_x, need_weight=need_weight
        )
    return [*(of_xs or []), *([of_weight.contiguous()] if need_weight else [])]


@_adjoint.register_fake
def _(
    xs: list[Tensor],
    weight: Tensor,
    gradient: Tensor,
    number: int,
    need_x: bool,
    need_weight: bool,
) -> list[Tensor]:
    wanted = [*(xs if need_x else []), *([weight] if need_weight else [])]
    return [torch.empty_like(tensor) for tensor in wanted]


def _keep_convolution(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    xs, weight, number, _, scale, shift, rectify = inputs
    ctx.save_for_backward(weight, *xs)
    ctx.shift_type = None if shift is None else shift.dtype
    ctx.is_final = scale is not None or rectify
    # numbers keep nothing alive
    ctx.number, ctx.basis = number, Basis.numbered(number)


def _differentiate_convolution(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    if ctx.is_final:
        raise RuntimeError("scaled or rectified convolutions are for inference, without gradients")
    weight, *xs = ctx.saved_tensors
    need_x, need_weight = _any(ctx.needs_input_grad[0]), ctx.needs_input_grad[1]
    gradients: list[Tensor] = []
    if need_x or need_weight:
        gradients = _adjoint(xs, weight, gradient.contiguous(), ctx.number, need_x, need_weight)
    of_shift = gradient.sum((0, 1), dtype=ctx.shift_type) if ctx.needs_input_grad[5] else None
    return (
        gradients[: len(xs)] if need_x else [None] * len(xs),
        gradients[-1] if need_weight else None,
        None,
        None,
        None,
        of_shift,
        None,
    )


def _keep_adjoint(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    xs, weight, gradient, number, ctx.need_x, ctx.need_weight = inputs
    ctx.save_for_backward(weight, gradient, *xs)
    ctx.basis = Basis.numbered(number)


def _differentiate_adjoint(ctx: Any, cotangents: list[Tensor]) -> tuple[Any, ...]:
    """The adjoint is bilinear in weights and gradient, and in samples and gradient."""
    weight, gradient, *xs = ctx.saved_tensors
    of_dx = list(cotangents[: len(xs)]) if ctx.need_x else None
    of_dweight = cotangents[-1].contiguous() if ctx.need_weight else None
    to_xs: list[Any] = [None] * len(xs)
    to_weight, to_gradient = None, torch.zeros_like(gradient)
    if of_dweight is not None:
        back = convolve(ctx.basis.transposed, [gradient], of_dweight.transpose(1, 2))
        to_xs = list(torch.split(back, [x.shape[2] for x in xs], dim=2))
        to_gradient = to_gradient + convolve(ctx.basis, xs, of_dweight)
    if of_dx is not None:
        to_gradient = to_gradient + convolve(ctx.basis, of_dx, weight)
        turned, other = ctx.basis.transposed.number, torch.cat(of_dx, dim=2)
        moments = _adjoint([gradient], weight.transpose(1, 2), other, turned, False, True)
        to_weight = moments[0].transpose(1, 2)
    return to_xs, to_weight, to_gradient, None, None, None


_convolve.register_autograd(_differentiate_convolution, setup_context=_keep_convolution)
_adjoint.register_autograd(_differentiate_adjoint, setup_context=_keep_adjoint)


@torch.library.custom_op("xsphere::product", mutates_args=())
def _product(x: Tensor, number: int, n_target: int) -> Tensor:
    matrices = FixedMatrices.numbered(number)
    with _no_autocast(x.device.type):
        y: Tensor = (_backend(x) or reference).product(matrices, x)
        return y


@_product.register_fake
def _(x: Tensor, number: int, n_target: int) -> Tensor:
    return x.new_empty((len(x), n_target, x.shape[2]))


def _keep_product(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
    ctx.matrices = FixedMatrices.numbered(inputs[1])


def _differentiate_product(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return product(ctx.matrices.transposed, gradient), None, None


_product.register_autograd(_differentiate_product, setup_context=_keep_product)


def _any(needs: Any) -> bool:
    return any(needs) if isinstance(needs, (list, tuple)) else bool(needs)
