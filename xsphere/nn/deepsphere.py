"""Weights trained with deepsphere-pytorch, for the layers of this package.

Checkpoints are state dicts (names to tensors) or safetensors files. A pickle runs whatever its
writer put there and is never read here: ``torch.load`` with ``weights_only=True`` makes a state
dict of one, and whether to trust the file is left to its user.
"""

from collections.abc import Sequence
from typing import Self

from scipy import sparse
from torch import Tensor, nn

from xsphere.nn.block import ConvBlock
from xsphere.nn.convolution import ChebConv, drawn_with
from xsphere.nn.deepsphere_entries import (
    ENCODER,
    HEAD,
    JOIN,
    SOURCES,
    UP,
    Checkpoint,
    State,
    checkpoint_entries,
    from_deepsphere_weight,
    is_normalised,
    layer_sizes,
    layer_state,
    network_state,
)
from xsphere.nn.operator import SparseOperator
from xsphere.nn.pooling import pool

__all__ = [
    "DeepsphereUNet",
    "deepsphere_encoder_state",
    "deepsphere_layer_state",
    "from_deepsphere_weight",
]

N_LEVELS = 6


def deepsphere_layer_state(checkpoint: Checkpoint, prefix: str = "") -> State:
    """State dict of a `ChebConv` or a `ConvBlock` from that of one layer of deepsphere-pytorch.

    Its ``ChebConv`` and ``SphericalChebConv`` become a `ChebConv`. ``SphericalChebBN`` becomes a
    `ConvBlock` with the same outputs in evaluation: the normalisation there has a scale, ours has
    none, and so the weights and the running mean are multiplied by it, which is exact for any
    scale as long as the running statistics are used. Statistics of batches would take it out
    again; in `DeepsphereUNet.from_checkpoint` the scale goes elsewhere and training can go on.

    Parameters
    ----------
    checkpoint : mapping of str to tensor, str or Path
        State dict, or path of a safetensors file.
    prefix : str
        What stands before the names, such as ``"encoder.enc_l4.spherical_cheb_bn"``.

    Returns
    -------
    dict of str to tensor
        For ``load_state_dict``, of the dtype of the weight.

    Raises
    ------
    TypeError
        If the checkpoint does not give names to arrays of real numbers.
    ValueError
        If entries are missing, are too many, or have shapes that do not fit together; all of them
        are named.

    Examples
    --------
    >>> import torch
    >>> layer = {"chebconv.weight": torch.ones(4, 3, 5), "chebconv.bias": torch.zeros(5)}
    >>> {name: tuple(value.shape) for name, value in deepsphere_layer_state(layer).items()}
    {'weight': (4, 3, 5), 'bias': (5,)}
    """
    return layer_state(checkpoint_entries(checkpoint), prefix)


def deepsphere_encoder_state(checkpoint: Checkpoint) -> State:
    """Entries of a `SphereUNet` for its encoder, from a U-Net of deepsphere-pytorch.

    For ``load_state_dict(..., strict=False)`` into a network of the layout ``"deepsphere"`` (or
    one of the sizes in the checkpoint). The encoders have the same seven layers. The decoders
    differ: of five stages instead of seven, with batch normalisation and ReLU where a
    `SphereUNet` has none, joined to what leaves a layer of the encoder and not to what enters it,
    and with neighbours in the last layer. No weights make one of the other, so the decoder has to
    be trained again; `DeepsphereUNet` runs the checkpoint as it is.

    Parameters
    ----------
    checkpoint : mapping of str to tensor, str or Path
        State dict, or path of a safetensors file.

    Returns
    -------
    dict of str to tensor
        Entries ``encoder.0.conv.weight`` to ``encoder.6.bias``. What leaves the last layer, which
        is linear, is what leaves that of the checkpoint, in training and in evaluation; channels
        in between differ by positive factors.

    Raises
    ------
    TypeError, ValueError
        As for `deepsphere_layer_state`.

    Examples
    --------
    >>> deepsphere_encoder_state({"model": {"encoder.enc_l0.spherical_cheb.chebconv.bias": []}})
    Traceback (most recent call last):
    ...
    TypeError: a checkpoint must give names to tensors; give one of its parts ['model']
    """
    entries = checkpoint_entries(checkpoint)
    encoder = {name: value for name, value in entries.items() if name.startswith("encoder.")}
    return network_state(encoder, ENCODER)


class DeepsphereUNet(nn.Module):
    """The U-Net of deepsphere-pytorch, made of the layers of this package.

    An encoder of seven convolutions on six levels and a decoder of five stages: unpool, convolve,
    join what left the encoder at that level, convolve. All convolutions but the coarsest and the
    last are followed by batch normalisation and ReLU. `SphereUNet` is the network of the paper,
    which differs in its decoder. Cells are nested HEALPix cells; children are pooled by their mean.

    `from_checkpoint` takes trained weights. For equal numbers the Laplacians must be equal too,
    and checkpoints do not hold them. The published ones, ``laplacian_type`` as it was in training
    and ``nside = 2**level``, are those of::

        widths = {64: 0.01564, 128: 0.00782, 256: 0.00391, 512: 0.00196, 1024: 0.00098}
        SphereGraph(
            HealpixGrid(level),
            k=20,
            weights="gaussian",
            kernel_width=widths.get(nside, 0.03185 * 32 / nside),
            laplacian_type="combinatorial",
        ).scaled_laplacian

    but for two things that are not defined there: which of several equally far cells become
    neighbours (some rows, whose entries differ by up to about 0.01), and the largest eigenvalue,
    which is estimated from a random start and 0.1 % lower. Where the original matrices are at hand,
    use them.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    laplacians : sequence of sparse arrays
        Scaled Laplacians of the six levels, the finest first; each has a quarter of the cells of
        the one before.
    features : sequence of int
        Output channels of the seven layers of the encoder.
    decoder_features : sequence of int, optional
        Those of the five stages of the decoder. By default they mirror the encoder.
    kernel_size : int
        Polynomial terms of every convolution.

    Raises
    ------
    ValueError
        If there are other numbers of Laplacians, cells or features; all of it is named.

    Examples
    --------
    >>> import torch
    >>> from scipy import sparse
    >>> identities = [sparse.eye_array(48 * 4**level).tocsr() for level in (5, 4, 3, 2, 1, 0)]
    >>> network = DeepsphereUNet(2, 3, identities, features=(4,) * 7, kernel_size=2)
    >>> network(torch.zeros(1, 48 * 4**5, 2)).shape
    torch.Size([1, 49152, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        laplacians: Sequence[sparse.csr_array],
        *,
        features: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        decoder_features: Sequence[int] | None = None,
        kernel_size: int = 4,
    ) -> None:
        super().__init__()
        widths = tuple(features)[4::-1] if decoder_features is None else tuple(decoder_features)
        _check_sizes(laplacians, features, widths)
        operators = [SparseOperator(laplacian) for laplacian in laplacians]
        n_out = dict(
            zip(
                (*ENCODER, *UP, *JOIN, HEAD),
                (*features, *widths, *widths[:4], out_channels),
                strict=True,
            )
        )
        depths = {**dict(zip(ENCODER, (0, *range(6)), strict=True)), HEAD: 0}
        depths |= {layer: 4 - i for group in (UP, JOIN) for i, layer in enumerate(group)}

        def made(layer: str) -> nn.Module:
            n_in = sum(n_out[source] for source in SOURCES.get(layer, ())) or in_channels
            block = ConvBlock if is_normalised(layer) else ChebConv
            return block(n_in, n_out[layer], kernel_size, operators[depths[layer]])

        self.encoder = nn.ModuleList(map(made, ENCODER))
        self.up = nn.ModuleList(map(made, UP))
        self.join = nn.ModuleList(map(made, JOIN))
        self.head = made(HEAD)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, laplacians: Sequence[sparse.csr_array]
    ) -> Self:
        """Network with trained weights, of the sizes that they have.

        Outputs are those of the original, in evaluation and in training: what scales a channel
        there after its normalisation scales the weights of the layers that read it here.

        Parameters
        ----------
        checkpoint : mapping of str to tensor, str or Path
            State dict of a ``SphericalUNet`` (or ``SphericalUNetTemporalConv``) trained on nested
            HEALPix cells, or path of a safetensors file. Those for other samplings have the same
            names and are not told apart, but pool and unpool otherwise.
        laplacians : sequence of sparse arrays
            As for the class.

        Returns
        -------
        DeepsphereUNet
            In evaluation mode. Its outputs are scores, to which the original in evaluation applies
            a softmax.

        Raises
        ------
        TypeError
            If the checkpoint does not give names to arrays of real numbers.
        ValueError
            If entries are missing, are too many (such as those of an LSTM), or have shapes that do
            not fit together; all of them are named.

        Examples
        --------
        >>> DeepsphereUNet.from_checkpoint("weights.pt", [])
        Traceback (most recent call last):
        ...
        ValueError: a checkpoint is a state dict or a .safetensors file, got 'weights.pt'; ...
        """
        entries = checkpoint_entries(checkpoint)
        state = network_state(entries)
        kernel_size, n_in, _ = layer_sizes(entries, ENCODER[0])
        with drawn_with(seed=0):
            network = cls(
                n_in,
                layer_sizes(entries, HEAD)[2],
                laplacians,
                features=[layer_sizes(entries, layer)[2] for layer in ENCODER],
                decoder_features=[layer_sizes(entries, layer)[2] for layer in UP],
                kernel_size=kernel_size,
            )
        network.load_state_dict(state)
        return network.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes: (batch, cells, in_channels) to (batch, cells, out_channels)."""
        x = self.encoder[0](x)
        skips = []
        for depth, stage in enumerate(self.encoder[1:]):
            x = stage(pool(x) if depth else x)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.up[:-1], self.join, strict=True):
            x = join(up(x, spread=True), skips.pop())
        scores: Tensor = self.head(self.up[-1](x, spread=True))
        return scores


def _check_sizes(
    laplacians: Sequence[sparse.csr_array], features: Sequence[int], widths: Sequence[int]
) -> None:
    """Refuse sizes that make no network."""
    problems = []
    shapes = [laplacian.shape for laplacian in laplacians]
    coarsest = shapes[-1][0] if shapes else 0
    if shapes != [(coarsest * 4**step,) * 2 for step in range(N_LEVELS - 1, -1, -1)]:
        problems.append(
            f"laplacians must be {N_LEVELS} square matrices, each with a quarter of the cells of "
            f"the one before, as nested cells have, got shapes {shapes}"
        )
    for name, sizes, expected in (
        ("features", features, len(ENCODER)),
        ("decoder_features", widths, len(UP)),
    ):
        if len(sizes) != expected or any(size < 1 for size in sizes):
            problems.append(f"{name} must be {expected} numbers from 1, got {tuple(sizes)}")
    if problems:
        raise ValueError("; ".join(problems))
