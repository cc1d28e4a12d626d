"""The same promises where a store is a bucket: nothing can be renamed there, and requests fail."""

import json
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore, WrapperStore

import xsphere
from tests.faults.runs import start
from tests.test_blocks import Counting, mask
from tests.toys import storm_dataset, storm_model
from xsphere.blocks import (
    BlocksFailed,
    IncompleteStoreError,
    OtherRunError,
    StoreError,
    StoreWriteError,
    open_mask,
    repair_store,
    task,
    verify_store,
    write_blocks,
)
from xsphere.blocks.rows import ROWS
from xsphere.locations import location
from xsphere.store import without_format_warnings, write_whole

BOOKS = "_xsphere/zarr.json"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "PAUSE", 0.001)


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest) -> Any:
    """A URL where nothing is yet."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/m.zarr"
    return f"s3://{request.getfixturevalue('s3').bucket()}/out/m.zarr"


def objects(url: str) -> dict[str, bytes]:
    """Everything that is stored but the times that it was written at."""
    at = location(url)
    found = {key: at.read(key) or b"" for key in at.names()}
    books = json.loads(found.pop(BOOKS))["attributes"]["xsphere"]
    kept = {key: value for key, value in books.items() if key not in ("created", "digest")}
    rows: Any = zarr.open_array(at.store(read_only=True), path=ROWS, mode="r")
    for name in [name for name in found if name.startswith(f"{ROWS}/c.")]:
        found[name] = rows[int(name.split(".")[-2]), 1:].tobytes()
    return found | {BOOKS: json.dumps(kept, sort_keys=True).encode()}


def status(url: str) -> Any:
    return json.loads(location(url).read(BOOKS) or b"")["attributes"]["xsphere"]["status"]


def test_written_read_verified_resumed_and_repaired(place: str) -> None:
    with pytest.raises(BlocksFailed, match=r"(?s)the others are in .*m\.zarr"):
        write_blocks(mask(Counting((4,))), place)
    assert status(place) == "writing"
    with pytest.raises(IncompleteStoreError, match="2 of 3 blocks are there"):
        open_mask(place)
    counting = Counting()
    report = write_blocks(mask(counting), place)
    assert (report.written, report.path, counting.computed) == (1, place, [4])
    for read in (open_mask(place), xr.open_zarr(place)["mask"]):
        xr.testing.assert_equal(read.compute(), mask().compute())
    assert verify_store(place).ok
    assert write_blocks(mask(), place).written == 0
    with pytest.raises(OtherRunError, match=r"run\.model: 'a1' in the store"):
        write_blocks(mask().assign_attrs(xsphere_run='{"model": "b2"}'), place)
    whole, at = objects(place), location(place)
    at.write("mask/c/1/0", whole["mask/c/0/0"])
    at.delete("mask/c/2/0")
    at.write("lat/zarr.json", b"{}")
    report_ = verify_store(place)
    assert list(report_.damaged) == [1, 2]
    assert "lat/zarr.json" in (report_.damaged_variables or {})
    with pytest.raises(StoreError, match=r"the metadata of .* are damaged"):
        open_mask(place)
    counting = Counting()
    assert repair_store(place, mask(counting), workers=1).written == 2
    assert counting.computed == [4, 8]
    assert objects(place) == whole


def test_a_segmentation_by_url_from_end_to_end(s3: Any, in_shell: Any, tmp_path: Path) -> None:
    bucket = s3.bucket()
    source, out = f"s3://{bucket}/in.zarr", f"s3://{bucket}/m.zarr"
    storm_dataset(4).chunk(time=1).to_zarr(source, consolidated=False)
    model = storm_model().save(tmp_path / "model.safetensors")
    done = in_shell("segment", source, out, "--model", model, "--block-size", 1)
    assert done.returncode == 0, done.stderr
    expected = xsphere.segment(storm_dataset(4), storm_model())
    np.testing.assert_array_equal(open_mask(out), expected)
    assert in_shell("verify", out).returncode == 0
    again = in_shell("segment", source, out, "--model", model, "--block-size", 1)
    assert "all there before" in again.stdout
    # what is read is not written to, wherever it is
    for place in (source, f"s3://{bucket}/in.zarr/PSL/x.zarr"):
        wrong = in_shell("segment", source, place, "--model", model, "--overwrite")
        assert "what is read" in wrong.stderr
    with pytest.raises(ValueError, match="what is read"):
        write_blocks(xsphere.segment(source, storm_model()), source, overwrite=True)
    # a source that changes in place
    array: Any = zarr.open_array(source, path="PSL", mode="r+")
    array[3] = array[3] + 1
    changed = in_shell("segment", source, out, "--model", model, "--block-size", 1)
    assert "repaired_source" in changed.stderr
    assert changed.returncode == 1


@pytest.mark.quick("memory")
def test_regridded_fields_and_pyramids(place: str) -> None:
    ds = storm_dataset(2).chunk(time=1)
    fields = ds.sphere.to_healpix(1)
    assert write_whole(fields, place) == place
    xr.testing.assert_equal(xr.open_zarr(place).compute(), fields.compute())
    with pytest.raises(FileExistsError, match="is there already"):
        write_whole(fields, place)
    xsphere.write_pyramid(fields, place, overwrite=True)
    assert xr.open_zarr(place, group="0")["PSL"].shape == (2, 12)
    assert set(xr.open_datatree(place, engine="zarr").children) == {"0", "1"}
    write_blocks(fields, place, overwrite=True)
    assert verify_store(place).ok
    with pytest.raises(ValueError, match="what is read"):
        write_blocks(open_mask(place), place, overwrite=True)


@pytest.mark.parametrize("command", ["regrid", "pyramid"])
def test_commands_write_to_urls(command: str, in_shell: Any, tmp_path: Path) -> None:
    storm_dataset(2).to_zarr(tmp_path / "x.zarr", consolidated=False)
    place = f"memory://{uuid.uuid4().hex}/m.zarr"
    done = in_shell(command, tmp_path / "x.zarr", place, "--level", 1)
    assert (done.returncode, done.stdout) == (0, f"{place}\n")
    group = "1" if command == "pyramid" else None
    assert xr.open_zarr(place, group=group).sizes["cells"] == 48


@pytest.mark.quick("memory")
def test_only_what_is_ours_is_replaced(place: str) -> None:
    storm_dataset(2).to_zarr(place, consolidated=False)
    before = fsspec.get_mapper(place)
    names = set(before)
    with pytest.raises(ValueError, match="is not a store that xsphere wrote, so it is not"):
        write_blocks(mask(), place, overwrite=True)
    with pytest.raises(StoreError, match="is no store that was written block by block"):
        write_blocks(mask(), place)
    assert set(fsspec.get_mapper(place)) == names


@pytest.mark.quick("memory")
def test_replaced_stores_are_marked_then_emptied(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    write_blocks(mask(), place)
    with monkeypatch.context() as patch:
        patch.setattr("xsphere.locations.Location.clear", die)
        with pytest.raises(Killed):
            write_blocks(mask(n=6), place, overwrite=True)
    for action in (open_mask, verify_store):
        with pytest.raises(StoreError, match=r"or its metadata are damaged"):
            action(place)
    write_blocks(mask(n=6), place, overwrite=True)
    assert open_mask(place).shape == (6, 13)
    assert not any(key.startswith("mask/c/2") for key in location(place).names())


@pytest.mark.quick("3", "8")
@pytest.mark.parametrize("after", range(12))
def test_a_store_that_is_being_made_is_finished(
    monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Killed after any number of writes: nobody reads it, and the same call goes on."""

    class Killed(BaseException):
        pass

    from xsphere.locations import Location

    write, written = Location.write, []

    def write_or_die(self: Location, key: str, content: bytes) -> None:
        if len(written) == after:
            raise Killed
        written.append(key)
        write(self, key, content)

    place = f"memory://{uuid.uuid4().hex}/m.zarr"
    died = False
    with monkeypatch.context() as patch:
        patch.setattr(Location, "write", write_or_die)
        try:
            write_blocks(mask(), place, workers=1)
        except Killed:
            died = True
    if not died:
        pytest.skip("it was done before")
    with pytest.raises((IncompleteStoreError, FileNotFoundError)):
        open_mask(place)
    write_blocks(mask(), place)
    assert verify_store(place).ok


@pytest.mark.quick("zarr.json")
@pytest.mark.parametrize("key", ["mask/c/1/0", f"{ROWS}/c.1.0", "zarr.json"])
def test_requests_that_fail_for_a_while(s3: Any, key: str) -> None:
    place = f"s3://{s3.bucket()}/m.zarr"
    left = [3]

    def refuse(method: str, path: str) -> int:
        if method == "PUT" and path.endswith(key) and left[0]:
            left[0] -= 1
            return 503
        return 0

    s3.faults.refuse = refuse
    counting = Counting()
    write_blocks(mask(counting), place, workers=1)
    assert s3.faults.refused == 3
    assert counting.computed == [0, 4, 8]
    assert verify_store(place).ok


def test_a_denied_write_is_told_and_begins_nothing(s3: Any) -> None:
    place, counting = f"s3://{s3.bucket()}/m.zarr", Counting()
    s3.faults.refuse = lambda method, path: 403 if method == "PUT" else 0
    words = r"m\.zarr cannot be written \(PermissionError: no\); check the credentials"
    with pytest.raises(PermissionError, match=words):
        write_blocks(mask(counting), place)
    assert counting.computed == []
    s3.faults.refuse = lambda method, path: 403 if "/mask/c/1" in path else 0
    with pytest.raises(StoreWriteError, match=r"block 1 .*cannot be written.*PermissionError"):
        write_blocks(mask(), place, workers=1)
    s3.faults.refuse = lambda method, path: 0
    write_blocks(mask(), place)
    assert verify_store(place).ok


def test_a_bucket_that_is_not_there(s3: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot be written .*check the address"):
        write_blocks(mask(), f"s3://no{uuid.uuid4().hex}/m.zarr")
    with pytest.raises(FileNotFoundError, match="there is no store at s3://"):
        open_mask(f"s3://no{uuid.uuid4().hex}/m.zarr")


@pytest.mark.slow
def test_options_reach_the_driver(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"s3://{s3.bucket()}/m.zarr"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = {"endpoint_url": s3.url, "key": "a", "secret": "b"}
    write_blocks(mask(), place, storage_options=options, workers=1)
    assert verify_store(place, storage_options=options).ok
    np.testing.assert_array_equal(open_mask(place, storage_options=options), mask())
    with pytest.raises(TypeError, match="storage_options are for URLs"):
        open_mask("m.zarr", storage_options=options)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ImportError, match=r'driver is missing: pip install "xsphere\[gcs\]"'):
        write_blocks(mask(), "gs://bucket/m.zarr")
    for url in ("https://host/m.zarr", "simplecache::s3://bucket/m.zarr"):
        with pytest.raises(ValueError, match="can be neither listed nor written to"):
            write_blocks(mask(), url)


class Shuffled(WrapperStore[MemoryStore]):
    """A store that lists what it has in another order each time."""

    async def list_prefix(self, prefix: str) -> Any:
        found = [key async for key in self._store.list_prefix(prefix)]
        for index in np.random.default_rng(len(found)).permutation(len(found)):
            yield found[index]


def test_stores_of_zarr_in_any_order() -> None:
    for store in (MemoryStore(), Shuffled(MemoryStore())):
        with pytest.raises(BlocksFailed):
            write_blocks(mask(Counting((4,))), store)
        counting = Counting()
        write_blocks(mask(counting), store)
        assert counting.computed == [4]
        assert verify_store(store).ok
        np.testing.assert_array_equal(open_mask(store), mask())
    with pytest.raises(TypeError, match="must be a path, got 3"):
        write_blocks(mask(), 3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_cluster_writes_where_all_see_it(s3: Any, cluster: Any) -> None:
    place = f"s3://{s3.bucket()}/m.zarr"
    # the workers may have been started before the server
    options = {"endpoint_url": s3.url, "key": "a", "secret": "b"}
    write_blocks(mask(), place, client=cluster, storage_options=options)
    assert verify_store(place).ok
    for alone in ("memory://x/m.zarr", MemoryStore()):
        with pytest.raises(ValueError, match="in the memory of this process cannot be written"):
            write_blocks(mask(), alone, client=cluster)


KILLED = """
import sys, os
from tests.test_blocks import classes_at, mask
from xsphere.blocks import write_blocks
def slowly(index):
    import time
    time.sleep(0.05)
    return classes_at(index)
slowly.__dask_tokenize__ = lambda: "counting"
write_blocks(mask(slowly, 30, 1), sys.argv[1], workers=2)
"""


@pytest.mark.slow
def test_a_writer_killed_again_and_again(s3: Any) -> None:
    import time

    place = f"s3://{s3.bucket()}/m.zarr"
    at, seen = location(place), [0]
    for wanted in (0, 6, 14):
        process = start(KILLED, place)
        end = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < end:
            rows = sum(key.startswith(f"{ROWS}/c.") for key in at.names())
            if rows > wanted or (not wanted and at.read(BOOKS) is not None):
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        seen.append(sum(key.startswith(f"{ROWS}/c.") for key in at.names()))
        with pytest.raises(IncompleteStoreError):
            open_mask(place)
    assert seen == sorted(seen)
    counting = Counting()
    report = write_blocks(mask(counting, 30, 1), place)
    assert report.written == len(counting.computed) == 30 - seen[-1]
    assert verify_store(place).ok
    other = f"s3://{s3.bucket()}/m.zarr"
    write_blocks(mask(n=30, block=1), other)
    assert objects(place) == objects(other)


def test_a_source_over_http(tmp_path: Path) -> None:
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with without_format_warnings():
        storm_dataset(3).chunk(time=1).to_zarr(tmp_path / "x.zarr", consolidated=True)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/x.zarr"
        write_blocks(xsphere.segment(url, storm_model()), tmp_path / "m.zarr", workers=1)
    finally:
        server.shutdown()
        server.server_close()
    expected = xsphere.segment(storm_dataset(3), storm_model())
    np.testing.assert_array_equal(open_mask(tmp_path / "m.zarr"), expected)
