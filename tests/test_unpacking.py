"""What chunks unpack to is bounded by what the metadata of their array declare."""

import bz2
import gzip
import lzma
import pickle
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr import codecs as v3

import xsphere
from tests.tiers import examples
from xsphere.blocks import verify_store, write_blocks
from xsphere.sources import CorruptChunkError, UnreadableFileError
from xsphere.store import open_lazily
from xsphere.unpacking import Bound, bounded, unpacked

# what a chunk of 96 bytes must not become
LARGE = bytes(5 * 10**6)
PACKED = {
    "zstd": numcodecs.Zstd(level=1).encode,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "lzma": lzma.compress,
    "lz4": numcodecs.LZ4().encode,
    "blosc": numcodecs.Blosc(cname="zstd").encode,
}
V2 = {
    "zstd": numcodecs.Zstd(), "gzip": numcodecs.GZip(), "zlib": numcodecs.Zlib(),
    "bz2": numcodecs.BZ2(), "lzma": numcodecs.LZMA(), "lz4": numcodecs.LZ4(),
    "blosc": numcodecs.Blosc(),
}  # fmt: skip
VALUES = np.arange(1, 49, dtype="f4").reshape(6, 8)


def v3_codec(name: str) -> Any:
    plain = {"zstd": v3.ZstdCodec, "gzip": v3.GzipCodec, "blosc": v3.BloscCodec}
    if name in plain:
        return plain[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from zarr.codecs import numcodecs as wrapped

        names = {"zlib": "Zlib", "bz2": "BZ2", "lzma": "LZMA", "lz4": "LZ4"}
        return getattr(wrapped, names[name])()


def written(folder: Path, kind: str, name: str, **options: Any) -> Path:
    """An array of two chunks, whose second is what the tests replace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            folder / "x.zarr",
            name="t",
            shape=VALUES.shape,
            dtype="f4",
            chunks=(3, 8),
            shards=(6, 8) if kind == "shards" else None,
            zarr_format=2 if kind == "v2" else 3,
            compressors=V2[name] if kind == "v2" else v3_codec(name),
            dimension_names=None if kind == "v2" else ("y", "x"),
            attributes={"_ARRAY_DIMENSIONS": ["y", "x"]} if kind == "v2" else {},
            **options,
        )
        array[...] = VALUES
    return folder / "x.zarr"


def opened(path: Path) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xr.open_zarr(path, chunks=None, consolidated=False)


def put(path: Path, kind: str, packed: bytes) -> None:
    """Replace the second chunk."""
    if kind == "shards":
        file = path / "t" / "c" / "0" / "0"
        whole = bytearray(file.read_bytes())
        index = len(whole) - 2 * 16 - 4
        whole[index:index] = packed
        whole[-20:-4] = struct.pack("<QQ", index, len(packed))
        whole[-4:] = crc32c(bytes(whole[-36:-4]))
        file.write_bytes(bytes(whole))
    else:
        file = path / "t" / ("1.0" if kind == "v2" else "c/1/0")
        assert file.exists()
        file.write_bytes(packed)


def crc32c(data: bytes) -> bytes:
    """Checksum of the index of a shard."""
    packed: bytes = bytes(numcodecs.CRC32C().encode(np.frombuffer(data, "u1")))
    return packed[:4] if packed[4:] == data else packed[-4:]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["v2", "v3", "shards"])
@pytest.mark.parametrize("name", list(PACKED))
def test_a_chunk_that_unpacks_to_more_is_refused_and_named(
    tmp_path: Path, kind: str, name: str
) -> None:
    path = written(tmp_path, kind, name)
    np.testing.assert_array_equal(xsphere.open(path).t, VALUES)
    put(path, kind, bytes(PACKED[name](VALUES[3:].tobytes())))
    np.testing.assert_array_equal(xsphere.open(path).t, VALUES)
    put(path, kind, bytes(PACKED[name](LARGE)))
    with pytest.raises(CorruptChunkError, match=r"5000000 bytes|more than 96 bytes") as caught:
        xsphere.open(path).t.load()
    assert (caught.value.variable, caught.value.where) == ("t", "y[3:6] of 6")
    np.testing.assert_array_equal(xsphere.open(path).t[:3], VALUES[:3])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["v2", "v3"])
@pytest.mark.parametrize("name", list(PACKED))
@pytest.mark.parametrize("harm", ["empty", "cut", "noise"])
def test_damaged_chunks_are_named_whatever_the_codec(
    tmp_path: Path, kind: str, name: str, harm: str
) -> None:
    path = written(tmp_path, kind, name)
    whole = bytes(PACKED[name](VALUES[3:].tobytes()))
    put(path, kind, {"empty": b"", "cut": whole[:-6], "noise": bytes(range(7, 90))}[harm])
    with pytest.raises(CorruptChunkError, match=r"variable 't', y\[3:6\] of 6, chunk 't/"):
        xsphere.open(path).t.load()


@examples(25)
@given(
    name=st.sampled_from(sorted(PACKED)),
    content=st.binary(min_size=1, max_size=300),
    repeated=st.sampled_from([1, 50]),
)
def test_what_fits_is_unpacked(name: str, content: bytes, repeated: int) -> None:
    content *= repeated
    packed = PACKED[name](content)
    for bound in (Bound(len(content), exact=True), Bound(len(content) + 9, exact=False)):
        assert bytes(unpacked(V2[name], packed, bound)) == content
    with pytest.raises(ValueError, match="bytes"):
        unpacked(V2[name], packed, Bound(len(content) - 1, exact=False))


@pytest.mark.parametrize("name", ["zstd", "gzip", "bz2", "lzma"])
def test_streams_may_follow_each_other(name: str) -> None:
    packed = bytes(PACKED[name](b"abc")) + bytes(PACKED[name](b"de"))
    assert bytes(unpacked(V2[name], packed, Bound(5, exact=True))) == b"abcde"
    with pytest.raises(ValueError, match="bytes"):
        unpacked(V2[name], packed, Bound(4, exact=False))


def test_zstandard_frames_that_do_not_tell_their_size() -> None:
    # of one block that repeats a byte, as writers that stream make them
    def frame(length: int) -> bytes:
        block = (length << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"x"
        return bytes.fromhex("28b52ffd0058") + block

    assert bytes(numcodecs.Zstd().decode(frame(50))) == b"x" * 50
    assert bytes(unpacked(V2["zstd"], frame(50), Bound(50, exact=True))) == b"x" * 50
    for bound in (Bound(49, exact=True), Bound(51, exact=True), Bound(60, exact=False)):
        with pytest.raises((RuntimeError, ValueError)):
            unpacked(V2["zstd"], frame(50), bound)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["v2", "v3"])
def test_filters_may_change_the_size(tmp_path: Path, kind: str) -> None:
    if kind == "v2":
        filters: Any = [numcodecs.FixedScaleOffset(offset=0, scale=1, dtype="f4", astype="i8")]
    else:
        from zarr.codecs.numcodecs import FixedScaleOffset

        filters = FixedScaleOffset(offset=0, scale=1, dtype="<f4", astype="<i8")
    path = written(tmp_path, kind, "gzip", filters=filters)
    np.testing.assert_array_equal(xsphere.open(path).t, VALUES)
    put(path, kind, gzip.compress(LARGE))
    with pytest.raises(CorruptChunkError, match="more than"):
        xsphere.open(path).t.load()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fmt", [2, 3])
def test_texts_and_arrays_in_pickles_are_read(fmt: int) -> None:
    words = np.array(["r1i1p1f1", "ü" * 900], dtype=object)
    group = zarr.create_group({}, zarr_format=fmt)
    xr.Dataset({"w": ("x", words)}).to_zarr(group.store, mode="a", zarr_format=fmt)
    array = bounded(zarr.open_group(group.store, mode="r")["w"])  # type: ignore[arg-type]
    assert list(array[...]) == list(words)  # type: ignore[arg-type, call-overload]
    copied = pickle.loads(pickle.dumps(array))
    assert copied.metadata.to_dict() == array.metadata.to_dict()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fmt", [2, 3])
def test_coordinates_of_a_path_are_bounded_too(tmp_path: Path, fmt: int) -> None:
    path = tmp_path / "x.zarr"
    ds = xr.Dataset({"t": ("lat", np.arange(4.0))}, {"lat": [0.0, 1.0, 2.0, 3.0]})
    ds.to_zarr(path, zarr_format=fmt, encoding={"lat": {"compressors": [V2["gzip"]] if fmt == 2
               else [v3.GzipCodec()]}})  # fmt: skip
    for opening in (xsphere.open, open_lazily):
        xr.testing.assert_equal(opening(path).compute(), ds)
    (path / "lat" / ("0" if fmt == 2 else "c/0")).write_bytes(gzip.compress(LARGE))
    for opening in (xsphere.open, open_lazily):
        with pytest.raises(UnreadableFileError, match="unpacks to more than 32 bytes"):
            opening(path)


def test_names_of_tasks_of_a_path_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    xr.Dataset({"t": ("lat", np.arange(4.0))}).to_zarr(path, consolidated=False)
    assert open_lazily(path).t.data.name == open_lazily(path).t.data.name


def test_own_stores_are_bounded_too(tmp_path: Path) -> None:
    array = xr.DataArray(np.arange(8, dtype="f4"), dims="time", name="t").chunk(time=4)
    write_blocks(array, tmp_path / "m.zarr")
    file = tmp_path / "m.zarr" / "t" / "c" / "1"
    assert verify_store(tmp_path / "m.zarr").ok
    file.write_bytes(numcodecs.Zstd(checksum=True).encode(LARGE))
    report = verify_store(tmp_path / "m.zarr")
    assert not report.ok
    assert "5000000 bytes" in str(report)
