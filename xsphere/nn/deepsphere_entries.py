"""Entries of deepsphere-pytorch checkpoints: their names, what they must be, what they become."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Checkpoint = Mapping[str, Any] | str | Path
State = dict[str, Tensor]

# Layers by their places in the published state dict. Those of the encoder work at depths 0, 0, 1,
# 2, 3, 4, 5; those named "up" and "join" at 4, 3, 2, 1, 0, of which the last joins nothing.
ENCODER = (
    "encoder.enc_l5.spherical_cheb_bn_1.",
    "encoder.enc_l5.spherical_cheb_bn_2.",
    *(f"encoder.enc_l{level}.spherical_cheb_bn." for level in (4, 3, 2, 1)),
    "encoder.enc_l0.",
)
UP = tuple(f"decoder.dec_l{i}.spherical_cheb_bn_pool.spherical_cheb_bn." for i in range(1, 6))
JOIN = tuple(f"decoder.dec_l{i}.spherical_cheb_bn." for i in range(1, 5))
HEAD = "decoder.dec_l5."
# Where the input of every layer comes from, but for the first.
SOURCES = {
    **{layer: (before,) for before, layer in pairwise(ENCODER)},
    **{layer: (below,) for layer, below in zip(UP, (ENCODER[-1], *JOIN), strict=True)},
    **{layer: (up, skip) for layer, up, skip in zip(JOIN, UP, ENCODER[5:1:-1], strict=False)},
    HEAD: (UP[-1],),
}
PLACES = {
    **{layer: f"encoder.{i}." for i, layer in enumerate(ENCODER)},
    **{layer: f"up.{i}." for i, layer in enumerate(UP)},
    **{layer: f"join.{i}." for i, layer in enumerate(JOIN)},
    HEAD: "head.",
}
CONVOLUTIONS = ("", "chebconv.", "spherical_cheb.chebconv.")
NORM = tuple(f"batchnorm.{name}" for name in ("weight", "bias", "running_mean", "running_var"))
SCALE, SHIFT = NORM[:2]
COUNT = "batchnorm.num_batches_tracked"
# A scale this near to zero leaves nothing of a channel but its shift, in single precision.
VANISHING = 1e-12


def from_deepsphere_weight(weight: Tensor) -> Tensor:
    """Weight of a `ChebConv` that does what the layer of deepsphere-pytorch does with this one.

    Both have the same shape, but there it is read as (in_channels, kernel_size, out_channels) when
    it is multiplied: input channel c of order k takes row ``c * kernel_size + k`` of
    ``weight.reshape(kernel_size * in_channels, out_channels)``.

    Parameters
    ----------
    weight : tensor or array of float, shape (kernel_size, in_channels, out_channels)
        Entry ``chebconv.weight`` of a state dict.

    Returns
    -------
    tensor of float, shape (kernel_size, in_channels, out_channels)
        A copy, of the same dtype.

    Raises
    ------
    TypeError
        If `weight` is not of real numbers in floating point.
    ValueError
        If it has not three dimensions, or no entries.

    Examples
    --------
    Two orders of three channels:

    >>> weight = torch.arange(6.0).reshape(2, 3, 1)
    >>> from_deepsphere_weight(weight)[:, :, 0].tolist()
    [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    """
    weight = _tensor("weight", weight)
    if weight.ndim != 3 or not weight.numel():
        raise ValueError(
            "weight must be of shape (kernel_size, in_channels, out_channels), none of them 0, as "
            f"deepsphere-pytorch stores it, got {tuple(weight.shape)}"
        )
    kernel_size, n_in, n_out = weight.shape
    ours = weight.reshape(n_in, kernel_size, n_out).transpose(0, 1)
    return ours.clone(memory_format=torch.contiguous_format)


def checkpoint_entries(checkpoint: Checkpoint) -> State:
    """Tensors of a checkpoint by name, without what DataParallel and sparse buffers add.

    Parameters
    ----------
    checkpoint : mapping of str to tensor, str or Path
        State dict, or path of a safetensors file.

    Returns
    -------
    dict of str to tensor
        The tensors themselves, where they are tensors.

    Raises
    ------
    TypeError
        If it does not give names to arrays of real numbers.
    ValueError
        If the file is another kind of file.

    Examples
    --------
    >>> list(checkpoint_entries({"module.a": torch.zeros(1), "module.laplacian": torch.eye(2)}))
    ['a']
    """
    if isinstance(checkpoint, str | Path):
        checkpoint = _read(Path(checkpoint))
    if not isinstance(checkpoint, Mapping):
        raise TypeError(
            "a checkpoint is a mapping of names to tensors or the path of a .safetensors file, got "
            f"{type(checkpoint).__name__}"
        )
    kept = {str(name): value for name, value in checkpoint.items()}
    inner = sorted(name for name, value in kept.items() if isinstance(value, Mapping))
    if inner:
        raise TypeError(f"a checkpoint must give names to tensors; give one of its parts {inner}")
    if kept and all(name.startswith("module.") for name in kept):
        kept = {name.removeprefix("module."): value for name, value in kept.items()}
    return {
        name: value if name.endswith(COUNT) else _tensor(name, value)
        for name, value in kept.items()
        if not name.endswith("laplacian")
    }


def _read(path: Path) -> State:
    """Tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise ValueError(
            f"a checkpoint is a state dict or a .safetensors file, got {str(path)!r}; pickles are "
            "not read, torch.load with weights_only=True makes a state dict of one that you trust"
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is no sound safetensors file: {error}") from error


def _tensor(name: str, value: Any) -> Tensor:
    try:
        # torch warns of arrays that it must not write to, which is not what it is asked to
        tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a tensor or an array, got {type(value)}") from error
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be of real numbers in floating point, got {tensor.dtype}")
    return tensor


def is_normalised(layer: str) -> bool:
    """Whether batch normalisation and ReLU follow: after all but the coarsest and the last layer.

    Parameters
    ----------
    layer : str
        One of `PLACES`.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_normalised(HEAD), is_normalised(UP[0])
    (False, True)
    """
    return layer not in (ENCODER[-1], HEAD)


def _weight_of(layer: str) -> str:
    return f"{layer}{CONVOLUTIONS[-1]}weight"


def _names(layer: str, normalised: bool, path: str = CONVOLUTIONS[-1]) -> dict[str, str]:
    """Names of a layer's entries by what they are."""
    parts = {"weight": f"{layer}{path}weight", "bias": f"{layer}{path}bias"}
    return parts | {name: f"{layer}{name}" for name in (NORM if normalised else ())}


def _check(entries: State, layers: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse entries that are missing, too many or of shapes that make no layer; name them all."""
    expected = [name for names in layers.values() for name in names.values()]
    counts = [f"{layer}{COUNT}" for layer in layers]
    problems = [f"missing {name!r}" for name in expected if name not in entries]
    problems += [f"not expected {name!r}" for name in entries if name not in expected + counts]
    n_out: dict[str, int] = {}
    for layer, names in layers.items():
        weight = entries.get(names["weight"])
        if weight is None:
            continue
        if weight.ndim != 3 or not weight.numel():
            problems.append(
                f"{names['weight']!r} of shape {tuple(weight.shape)}, not (kernel_size, "
                "in_channels, out_channels)"
            )
            continue
        n_out[layer] = weight.shape[2]
        vectors = [name for part, name in names.items() if part != "weight"]
        problems += _misfits(entries, vectors, (n_out[layer],))
    problems += _breaks(entries, layers, n_out)
    if problems:
        of = "a U-Net" if len(layers) > 1 else "a layer"
        raise ValueError(f"not the state dict of {of} of deepsphere-pytorch: {'; '.join(problems)}")


def _misfits(entries: State, names: Iterable[str], expected: tuple[int, ...]) -> list[str]:
    found = {name: tuple(entries[name].shape) for name in names if name in entries}
    wrong = {name: shape for name, shape in found.items() if shape != expected}
    return [f"{name!r} of shape {shape}, not {expected}" for name, shape in wrong.items()]


def _breaks(
    entries: State, layers: Mapping[str, Mapping[str, str]], n_out: Mapping[str, int]
) -> list[str]:
    """Where a layer does not take what the layers before it give, or not all are of one kind."""
    problems = []
    sizes = {layer: tuple(entries[layers[layer]["weight"]].shape) for layer in n_out}
    for layer, (_, n_in, _) in sizes.items():
        sources = SOURCES.get(layer, ())
        given = [n_out[source] for source in sources if source in n_out]
        if sources and len(given) == len(sources) and sum(given) != n_in:
            name = layers[layer]["weight"]
            problems.append(f"{name!r} of {n_in} channels where {sum(given)} arrive")
    for up, join in zip(UP, JOIN, strict=False):
        if up in n_out and n_out.get(join, n_out[up]) != n_out[up]:
            problems.append(f"{n_out[up]} channels of {up!r} but {n_out[join]} of {join!r}")
    terms = sorted({size[0] for size in sizes.values()})
    if len(terms) > 1:
        problems.append(f"several kernel sizes {terms}")
    return problems


def layer_state(entries: State, prefix: str) -> State:
    """State of one of our layers that gives the same outputs in evaluation.

    Parameters
    ----------
    entries : dict of str to tensor
        From `checkpoint_entries`.
    prefix : str
        What stands before the names of the layer.

    Returns
    -------
    dict of str to tensor
        State of a `ChebConv`, or of a `ConvBlock` where there are entries of a normalisation.

    Raises
    ------
    ValueError
        If there is no layer, or it does not fit together.

    Examples
    --------
    >>> list(layer_state({"a.chebconv.weight": torch.ones(1, 1, 1)}, "a"))
    ['weight']
    """
    start = f"{prefix.removesuffix('.')}." if prefix else ""
    within = {name: value for name, value in entries.items() if name.startswith(start)}
    names = [f"{start}{path}weight" for path in CONVOLUTIONS]
    paths = [path for path, name in zip(CONVOLUTIONS, names, strict=True) if name in within]
    if len(paths) != 1:
        raise ValueError(
            f"a layer has one of the entries {names}, got {sorted(within or entries)}; give the "
            "prefix of one layer"
        )
    parts = _names(start, any(f"{start}{name}" in within for name in NORM), paths[0])
    if parts["bias"] not in within:
        del parts["bias"]
    _check(within, {start: parts})
    state = _for_evaluation(_layer(within, start, parts))
    return _cast(state, within[parts["weight"]].dtype)


def layer_sizes(entries: State, layer: str) -> tuple[int, int, int]:
    """Terms, input and output channels of a layer of a checked U-Net.

    Parameters
    ----------
    entries : dict of str to tensor
        From `checkpoint_entries`, found sound by `network_state`.
    layer : str
        One of `PLACES`.

    Returns
    -------
    tuple of int
        ``kernel_size, in_channels, out_channels``.

    Examples
    --------
    >>> layer_sizes({f"{HEAD}spherical_cheb.chebconv.weight": torch.ones(4, 3, 2)}, HEAD)
    (4, 3, 2)
    """
    kernel_size, n_in, n_out = entries[_weight_of(layer)].shape
    return kernel_size, n_in, n_out


def _layer(entries: State, layer: str, names: Mapping[str, str]) -> State:
    """A layer's entries by what they are, in double precision, its weight in our order."""
    found = {part: entries[name].double() for part, name in names.items()}
    found["weight"] = from_deepsphere_weight(found["weight"])
    found["count"] = torch.as_tensor(entries.get(f"{layer}{COUNT}", 0))
    return found


def network_state(entries: State, layers: Sequence[str] = tuple(PLACES)) -> State:
    """State of our layers; each takes up what scales the channels of the layers before it.

    Parameters
    ----------
    entries : dict of str to tensor
        From `checkpoint_entries`.
    layers : sequence of str
        Which of `PLACES`, and no others, there must be.

    Returns
    -------
    dict of str to tensor
        By their `PLACES`.

    Raises
    ------
    ValueError
        If entries are missing, too many or do not fit together; all are named.

    Examples
    --------
    >>> network_state({}, [HEAD])
    Traceback (most recent call last):
    ...
    ValueError: not the state dict of a layer of deepsphere-pytorch: missing 'decoder.dec_l5...
    """
    names = {layer: _names(layer, is_normalised(layer)) for layer in layers}
    _check(entries, names)
    parts = {layer: _layer(entries, layer, names[layer]) for layer in layers}
    state: State = {}
    for layer in layers:
        arriving = [_scale(parts[source]) for source in SOURCES.get(layer, ())]
        if arriving:
            parts[layer]["weight"] *= torch.cat(arriving)[:, None]
        dtype = entries[_weight_of(layer)].dtype
        state |= _cast(_for_training(parts[layer]), dtype, PLACES[layer])
    return state


def _cast(state: State, dtype: torch.dtype, prefix: str = "") -> State:
    return {
        f"{prefix}{name}": value.to(dtype) if value.is_floating_point() else value
        for name, value in state.items()
    }


def _scale(parts: State) -> Tensor:
    """Positive factors of the channels that a layer gives, which those that read it take up."""
    if SCALE not in parts:
        return parts["weight"].new_ones(parts["weight"].shape[2])
    size = parts[SCALE].abs()
    return torch.where(size > VANISHING, size, 1.0)


def _for_training(parts: State) -> State:
    """A layer without its positive scale: only signs are left, which statistics do not undo."""
    if SCALE not in parts:
        return {name: parts[name] for name in ("weight", "bias")}
    signs = torch.where(parts[SCALE].abs() > VANISHING, parts[SCALE].sign(), 0.0)
    return _block(parts, signs, parts[SHIFT] / _scale(parts))


def _for_evaluation(parts: State) -> State:
    """A layer with its scale in the weights and the running mean."""
    if SCALE not in parts:
        return {name: parts[name] for name in ("weight", "bias") if name in parts}
    return _block(parts, parts[SCALE], parts[SHIFT])


def _block(parts: State, factor: Tensor, shift: Tensor) -> State:
    mean = parts[NORM[2]]
    return {
        "conv.weight": parts["weight"] * factor,
        # the normalisation takes a constant out again, so that a convolution needs none
        "norm.running_mean": (mean - parts.get("bias", torch.zeros_like(mean))) * factor,
        "norm.running_var": parts[NORM[3]],
        "norm.num_batches_tracked": parts["count"],
        "bias": shift,
    }
