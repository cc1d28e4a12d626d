"""Chunks of Zarr arrays unpacked within the size that their metadata declare.

A chunk of kilobytes may claim to hold gigabytes. Codecs are bounded here by what a frame says of
its size, or by unpacking no more than fits. Those of `UNPACKERS` are, as Zarr or numcodecs have
them, within shards too; others are left as they are: a new one is a function and an entry there. It
is imported where it is used, since Zarr is.
"""

import asyncio
import bz2
import lzma
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numcodecs
import numpy as np
from numcodecs.abc import Codec
from zarr import Array, AsyncArray
from zarr.abc.codec import BytesBytesCodec

# of a value whose size is not declared, such as a text; and of a chunk of few
LONGEST_TEXT, LEAST_BYTES = 2**12, 2**20
# what a decoder of LZMA may take beside what it unpacks: its largest preset takes 65 MiB
LZMA_BYTES = 2**28
# where a frame says how long its content is
ZSTD_MAGIC, ZSTD_SKIPPED = 0xFD2FB528, 0x184D2A50


@dataclass(frozen=True)
class Bound:
    """How many bytes a codec may unpack.

    Parameters
    ----------
    n_bytes : int
        The most.
    exact : bool
        Whether it must be as many.

    Examples
    --------
    >>> Bound(8, exact=False).check(5)
    >>> Bound(8, exact=True).check(5)
    Traceback (most recent call last):
    ...
    ValueError: its header tells of 5 bytes unpacked, expected 8
    """

    n_bytes: int
    exact: bool

    def check(self, told: int) -> None:
        """Refuse what is said to unpack to another size."""
        if told > self.n_bytes or (self.exact and told != self.n_bytes):
            wanted = "expected" if self.exact else "expected at most"
            raise ValueError(f"its header tells of {told} bytes unpacked, {wanted} {self.n_bytes}")

    @classmethod
    def of(cls, shape: Sequence[int], dtype: np.dtype[Any], *, exact: bool) -> "Bound":
        """Bound of a chunk; what codecs before this one add to it is allowed for if not exact."""
        n_values = math.prod(shape)
        if dtype.hasobject or dtype.kind == "T":
            return cls(LEAST_BYTES + LONGEST_TEXT * n_values, exact=False)
        n_bytes = n_values * dtype.itemsize
        # filters may widen values, packing of noise and the index of a shard take room
        room = 0 if exact else n_bytes // 8 + 16 * n_values + 2**16
        return cls(n_bytes + room, exact)


def bounded(array: Array[Any], *, in_full: bool = False) -> Array[Any]:
    """The same array, whose chunks cannot unpack to more than it declares.

    Parameters
    ----------
    array : zarr.Array
        Of either format, sharded or not.
    in_full : bool
        Whether it also writes chunks of nothing but the fill value, so that none is missing unless
        it is lost: how an array writes cannot be chosen when it is opened.

    Returns
    -------
    zarr.Array
        With the same metadata and store. What does not fit raises when it is read.

    Examples
    --------
    >>> import zarr
    >>> array = zarr.create_array({}, shape=(3,), dtype="f4")
    >>> bounded(array).metadata.to_dict() == array.metadata.to_dict()
    True
    """
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        dtype, filters = array.dtype, metadata.filters or ()
        bound = Bound.of(metadata.chunks, dtype, exact=not filters)
        loose = Bound.of(metadata.chunks, dtype, exact=False)
        changed = replace(
            metadata,
            compressor=_bounded_v2(metadata.compressor, bound),
            filters=tuple(_bounded_v2(one, loose) for one in filters) or None,
        )
    else:
        changed = replace(metadata, codecs=_bounded_v3(metadata.codecs))
    config: Any = {"write_empty_chunks": True} if in_full else array.async_array.config
    return Array(AsyncArray(metadata=changed, store_path=array.store_path, config=config))


def _bounded_v2(codec: Any, bound: Bound) -> Any:
    known = codec is not None and codec.codec_id in UNPACKERS
    return BoundedV2(codec, bound) if known else codec


def _bounded_v3(codecs: Sequence[Any]) -> tuple[Any, ...]:
    from zarr.codecs import BytesCodec, ShardingCodec

    changed: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            changed.append(replace(codec, codecs=_bounded_v3(codec.codecs)))
        elif isinstance(codec, BytesBytesCodec) and _id(codec) in UNPACKERS:
            # the first after the values were laid out gives as many bytes as these have
            changed.append(BoundedV3(codec, exact=isinstance(changed[-1], BytesCodec)))
        else:
            changed.append(codec)
    return tuple(changed)


def _id(codec: Any) -> str:
    return str(codec.to_dict().get("name", "")).removeprefix("numcodecs.")


class BoundedV2(Codec):  # type: ignore[misc]
    """A codec of numcodecs that unpacks no more than it may.

    Parameters
    ----------
    inner : numcodecs.abc.Codec
        The codec.
    bound : Bound
        How much.

    Examples
    --------
    >>> packed = numcodecs.Zlib().encode(bytes(10**6))
    >>> BoundedV2(numcodecs.Zlib(), Bound(100, exact=True)).decode(packed)
    Traceback (most recent call last):
    ...
    ValueError: it unpacks to more than 100 bytes
    """

    # Zarr looks for one in the class; an object has that of its codec
    codec_id = "bounded"

    def __init__(self, inner: Codec, bound: Bound) -> None:
        self.inner, self.bound, self.codec_id = inner, bound, inner.codec_id

    def encode(self, buf: Any) -> Any:
        """As the codec does it."""
        return self.inner.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """As the codec does it, if it fits."""
        return numcodecs.compat.ndarray_copy(unpacked(self.inner, buf, self.bound), out)

    def get_config(self) -> dict[str, Any]:
        """As the codec has it."""
        config: dict[str, Any] = self.inner.get_config()
        return config


@dataclass(frozen=True)
class BoundedV3(BytesBytesCodec):
    """A codec of Zarr that unpacks no more than it may.

    Parameters
    ----------
    inner : zarr.abc.codec.BytesBytesCodec
        The codec.
    exact : bool
        Whether the size of the chunk is that of its values.

    Examples
    --------
    >>> from zarr.codecs import ZstdCodec
    >>> BoundedV3(ZstdCodec(), exact=True).to_dict()["name"]
    'zstd'
    """

    inner: Any
    exact: bool
    is_fixed_size: ClassVar[bool] = False  # type: ignore[misc]

    def to_dict(self) -> dict[str, Any]:
        """As the codec has it."""
        found: dict[str, Any] = self.inner.to_dict()
        return found

    def evolve_from_array_spec(self, array_spec: Any) -> "BoundedV3":
        """For arrays of this kind."""
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """As the codec has it."""
        return int(self.inner.compute_encoded_size(input_byte_length, chunk_spec))

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        (encoded,) = await self.inner.encode([(chunk_bytes, chunk_spec)])
        return encoded

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        dtype = chunk_spec.dtype.to_native_dtype()
        bound = Bound.of(chunk_spec.shape, dtype, exact=self.exact)
        name, options = _id(self.inner), {}
        if UNPACKERS[name].needs_options:
            options = self.inner.to_dict().get("configuration", {})
        codec = numcodecs.get_codec({"id": name, **options})
        packed = chunk_bytes.as_numpy_array()
        found = await asyncio.to_thread(unpacked, codec, packed, bound)
        return chunk_spec.prototype.buffer.from_bytes(found)


def unpacked(codec: Codec, packed: Any, bound: Bound) -> Any:
    """What a codec unpacks, if it fits.

    Parameters
    ----------
    codec : numcodecs.abc.Codec
        One of those that are bounded.
    packed : buffer
        What is stored.
    bound : Bound
        How much may come of it.

    Returns
    -------
    bytes or array
        What the codec gives.

    Raises
    ------
    ValueError
        If it does not fit, or is cut off or damaged.

    Examples
    --------
    >>> unpacked(numcodecs.GZip(), numcodecs.GZip().encode(b"abc"), Bound(3, exact=True))
    b'abc'
    """
    data = numcodecs.compat.ensure_contiguous_ndarray(packed).reshape(-1).view(np.uint8).data
    try:
        return UNPACKERS[codec.codec_id].unpack(codec, data, bound)
    # what bzip2 says of bytes that are not its own is no matter of disks
    except OSError as error:
        raise ValueError(str(error)) from error


def _zstd(codec: Any, data: memoryview, bound: Bound) -> Any:
    sizes = list(_zstd_sizes(data))
    known = [size for size in sizes if size is not None]
    if len(known) == len(sizes):
        bound.check(sum(known))
        return codec.decode(data)
    if not bound.exact:
        raise ValueError("its Zstandard frame does not tell how much it unpacks to")
    # writers that stream do not tell: it fits exactly, or is refused
    return codec.decode(data, out=np.empty(bound.n_bytes, np.uint8))


def _zstd_sizes(data: memoryview) -> Iterator[int | None]:
    """Sizes of the contents of all frames, None where one does not tell."""
    start = 0
    while start < len(data):
        magic = int.from_bytes(data[start : start + 4], "little")
        if magic & 0xFFFFFFF0 == ZSTD_SKIPPED:
            start += 8 + int.from_bytes(data[start + 4 : start + 8], "little")
            continue
        if magic != ZSTD_MAGIC or len(data) < start + 6:
            raise ValueError("it is no Zstandard frame")
        about = data[start + 4]
        whole, n_digits = about >> 5 & 1, (about >> 5 & 1, 2, 4, 8)[about >> 6]
        start += 6 - whole + (0, 1, 2, 4)[about & 3]
        told = int.from_bytes(data[start : start + n_digits], "little")
        yield told + (256 if n_digits == 2 else 0) if n_digits else None
        start = _end_of_blocks(data, start + n_digits) + (about & 4)


def _end_of_blocks(data: memoryview, start: int) -> int:
    last = 0
    while not last:
        if start + 3 > len(data):
            raise ValueError("its Zstandard frame is cut off")
        header = int.from_bytes(data[start : start + 3], "little")
        last, repeated = header & 1, header >> 1 & 3 == 1
        start += 3 + (1 if repeated else header >> 3)
    return start


def _blosc(codec: Any, data: memoryview, bound: Bound) -> Any:
    # a header that tells of another length may kill the process that unpacks it, see
    # https://github.com/zarr-developers/numcodecs/issues/228
    if len(data) < 16:
        raise ValueError(f"it has {len(data)} bytes, too few for a Blosc header")
    told, packed = (int.from_bytes(data[at : at + 4], "little") for at in (4, 12))
    if packed != len(data):
        raise ValueError(f"its Blosc header tells of {packed} bytes, but it has {len(data)}")
    bound.check(told)
    return codec.decode(data)


def _lz4(codec: Any, data: memoryview, bound: Bound) -> Any:
    if len(data) < 4:
        raise ValueError(f"it has {len(data)} bytes, too few for LZ4")
    bound.check(int.from_bytes(data[:4], "little"))
    return codec.decode(data)


def _lzma(codec: Any, bound: Bound) -> lzma.LZMADecompressor:
    # of raw streams the options of the codec tell how much they take
    limit = None if codec.format == lzma.FORMAT_RAW else bound.n_bytes + LZMA_BYTES
    return lzma.LZMADecompressor(codec.format, limit, codec.filters if limit is None else None)


def _streamed(
    decoder: Callable[[Any, Bound], Any], *, several: bool
) -> Callable[[Any, memoryview, Bound], Any]:
    """What unpacks streams, one after the other, until no more fits."""

    def unpack(codec: Any, data: memoryview, bound: Bound) -> Any:
        parts: list[bytes] = []
        left, rest = bound.n_bytes, bytes(data)
        while rest or not parts:
            stream = decoder(codec, bound)
            parts.append(stream.decompress(rest, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise ValueError(f"it unpacks to more than {bound.n_bytes} bytes")
            if not stream.eof:
                raise ValueError("it is cut off")
            rest = stream.unused_data.lstrip(b"\0") if several else b""
        return b"".join(parts)

    return unpack


@dataclass(frozen=True)
class Unpacker:
    """How a codec unpacks within a bound.

    Parameters
    ----------
    unpack : callable
        Takes the codec, what is stored and the bound.
    needs_options : bool
        Whether what is stored does not tell all that unpacking needs.

    Examples
    --------
    >>> UNPACKERS["lzma"].needs_options
    True
    """

    unpack: Callable[[Any, memoryview, Bound], Any]
    needs_options: bool = False


UNPACKERS: dict[str, Unpacker] = {
    "zstd": Unpacker(_zstd),
    "blosc": Unpacker(_blosc),
    "lz4": Unpacker(_lz4),
    "gzip": Unpacker(_streamed(lambda *_: zlib.decompressobj(31), several=True)),
    "zlib": Unpacker(_streamed(lambda *_: zlib.decompressobj(), several=False)),
    "bz2": Unpacker(_streamed(lambda *_: bz2.BZ2Decompressor(), several=True)),
    "lzma": Unpacker(_streamed(_lzma, several=True), needs_options=True),
}
