"""Published datasets: files of their layouts are written small, read lazily, or refused at once."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xsphere
from xsphere import PointGrid
from xsphere.datasets import annotator_mean, climatenet, climatenet_large, deepsphere_climate
from xsphere.datasets.channels import CHANNELS
from xsphere.datasets.climatenet_files import NAME
from xsphere.datasets.icosahedral_files import published_vertices
from xsphere.datasets.published import _read_sums, time_of
from xsphere.evaluation.shares import ClassShares, class_names
from xsphere.grids.grid import vectors_to_lonlat
from xsphere.nn.training import TrainingOptions

LAT, LON = np.linspace(-90, 90, 9), np.arange(12) * 30.0
CLASSES = ("tropical_cyclone", "atmospheric_river")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(16)


@pytest.fixture
def lazily() -> Any:
    """Whatever is computed is an error."""

    def compute(*_: Any, **__: Any) -> None:
        raise AssertionError("computed")

    return dask.config.set(scheduler=compute)


def published_map(rng: np.random.Generator, **labels: Any) -> xr.Dataset:
    """One file of ClimateNet, small: 16 channels and labels at one time."""
    fields = {
        name: (("time", "lat", "lon"), rng.normal(size=(1, 9, 12)).astype("f4"))
        for name in CHANNELS
    }
    drawn = labels or {"LABELS": rng.integers(0, 3, (9, 12))}
    return xr.Dataset(
        fields | {name: (("lat", "lon"), values) for name, values in drawn.items()},
        {"lat": LAT, "lon": LON, "time": ["20000106"]},
    )


@pytest.fixture
def files(tmp_path: Path, rng: np.random.Generator) -> dict[str, xr.Dataset]:
    """Two training times, of which one has two annotators, and one test time."""
    names = (
        "train/data-2001-02-17-01-1_0.nc",
        "train/data-2000-01-06-01-1_1.nc",
        "train/data-2000-01-06-01-1_0.nc",
        "test/data-2011-06-01-07-1_0.nc",
    )
    written = {}
    for name in names:
        written[name] = published_map(rng)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written[name].to_netcdf(tmp_path / name, engine="netcdf4")
    return written


def test_climatenet_is_what_its_files_hold(
    tmp_path: Path, files: dict[str, xr.Dataset], lazily: Any
) -> None:
    with lazily:
        fields, labels = climatenet(tmp_path, "train")
    late, second, first, _ = files.values()
    assert [*fields] == [*CHANNELS]
    expected = pd.DatetimeIndex(["2000-01-06T03", "2001-02-17T03"])
    for found in (fields, labels):
        assert found.get_index("time").equals(expected)
    assert fields.TMQ.chunks == ((1, 1), (9,), (12,))
    for name in CHANNELS:
        np.testing.assert_array_equal(fields[name][0], first[name][0])
        np.testing.assert_array_equal(fields[name][1], late[name][0])
        xsphere.Variable(name=name, units=fields[name].units)
    assert labels.dims == ("time", "annotator", "lat", "lon")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[0, 0], first.LABELS)
    np.testing.assert_array_equal(labels[0, 1], second.LABELS)
    np.testing.assert_array_equal(labels[1, 0], late.LABELS)
    assert (labels[1, 1] == 255).all()
    assert class_names(labels) == CLASSES
    grid = xsphere.horizontal_grid(fields).grid
    assert grid == xsphere.horizontal_grid(labels).grid
    every, _ = climatenet(tmp_path)
    assert every.sizes["time"] == 3
    assert every.time.values[-1] == np.datetime64("2011-06-01T21")
    alone, flat = climatenet(tmp_path / "test")
    assert flat.dims == ("time", "lat", "lon")
    assert alone.sizes["time"] == 1


def test_several_annotators_may_share_a_file(tmp_path: Path, rng: np.random.Generator) -> None:
    drawn = {f"LABELS_{n}": rng.integers(0, 3, (9, 12)) for n in (1, 0)}
    drawn["LABELS_0"][0, 0] = 9
    published_map(rng, **drawn).to_netcdf(tmp_path / "data-2000-01-06-01-1.nc", engine="netcdf4")
    labels = climatenet(tmp_path).labels
    assert labels.sizes["annotator"] == 2
    np.testing.assert_array_equal(labels[0, 1], drawn["LABELS_1"])
    assert labels[0, 0, 0, 0] == 255
    np.testing.assert_array_equal(labels[0, 0, 1:], drawn["LABELS_0"][1:])


def sums_of(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.rglob("*.nc")}


def test_checksums_find_what_is_missing_extra_or_damaged(
    tmp_path: Path, files: dict[str, xr.Dataset]
) -> None:
    sums = sums_of(tmp_path)
    listed = tmp_path / "md5sums.txt"
    listed.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    climatenet(tmp_path, checksums=listed)
    climatenet(tmp_path, "train", checksums=sums)  # what is in the other part is not missing
    sums["data-2010-01-01-01-1.nc"] = "0" * 32
    del sums["data-2000-01-06-01-1_1.nc"]
    sums["data-2011-06-01-07-1_0.nc"] = hashlib.sha256(b"").hexdigest()
    with pytest.raises(ValueError, match="not as published") as error:
        climatenet(tmp_path, checksums=sums)
    lines = str(error.value).splitlines()[1:-1]
    assert len(lines) == 3
    for name, reason in (
        ("  - data-2010-01-01-01-1.nc", "missing"),
        ("  - train/data-2000-01-06-01-1_1.nc", "extra"),
        ("  - test/data-2011-06-01-07-1_0.nc", "damaged"),
    ):
        assert sum(line.startswith(f"{name}: {reason}") for line in lines) == 1
    with pytest.raises(ValueError, match="hexadecimal digests"):
        climatenet(tmp_path, checksums={"a.nc": "xyz"})


def spoiled(folder: Path, rng: np.random.Generator) -> dict[str, str]:
    """One file of each fault; what is said of it."""
    good = published_map(rng)
    kelvin = good.copy()
    kelvin["PSL"] = good.PSL.assign_attrs(units="hPa")
    units = good.copy()
    units["TMQ"] = good.TMQ.assign_attrs(units="kg/m2")
    faults = {
        "notes.nc": (good, "extra: names are as"),
        "data-2000-02-31-01-1.nc": (good, "extra: names are as"),
        "data-2000-03-01-09-1.nc": (good, "extra: names are as"),
        "data-2000-03-02-01-1.nc": (good.drop_vars(["PS", "LABELS"]), "lacks ['PS', 'LABELS']"),
        "data-2000-03-03-01-1.nc": (good.assign_coords(lat=LAT / 2), "not those of the other"),
        "data-2000-03-04-01-1.nc": (kelvin, "PSL in 'hPa'"),
        "data-2000-03-05-01-1.nc": (
            xr.concat([good] * 2, "time", data_vars="all"),
            "must be one map",
        ),
        "data-2000-01-06-01-2.nc": (good, "another run"),
        "data-2000-01-06-01-1_00.nc": (good, "its annotator is that of"),
    }
    for name, (ds, _) in faults.items():
        ds.to_netcdf(folder / name, engine="netcdf4")
    units.to_netcdf(folder / "data-2000-04-01-01-1.nc", engine="netcdf4")
    (folder / "data-2000-03-06-01-1.nc").write_bytes(b"HDF")
    return {n: reason for n, (_, reason) in faults.items()} | {"data-2000-03-06-01-1.nc": "damaged"}


def test_all_bad_files_are_named_at_once(tmp_path: Path, rng: np.random.Generator) -> None:
    published_map(rng).to_netcdf(tmp_path / "data-2000-01-06-01-1.nc", engine="netcdf4")
    (tmp_path / ".data.nc").touch()
    (tmp_path / "README.txt").touch()
    faults = spoiled(tmp_path, rng)
    with pytest.raises(ValueError, match="Get these files again") as error:
        climatenet(tmp_path)
    lines = str(error.value).splitlines()[1:-1]
    assert len(lines) == len(faults)
    for name, reason in faults.items():
        assert any(line.startswith(f"  - {name}: ") and reason in line for line in lines), name


def test_what_is_not_there_is_said(tmp_path: Path, files: dict[str, xr.Dataset]) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        climatenet(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="part='all'"):
        climatenet(tmp_path / "test", "train")
    with pytest.raises(ValueError, match="part must be one of"):
        climatenet(tmp_path, "validation")  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    for opened in (climatenet, climatenet_large, deepsphere_climate):
        with pytest.raises(FileNotFoundError, match="no file ends in"):
            opened(tmp_path / "empty")
    twin = tmp_path / "train" / "data-2011-06-01-07-1_1.nc"
    twin.write_bytes((tmp_path / "test" / "data-2011-06-01-07-1_0.nc").read_bytes())
    with pytest.raises(ValueError, match="its time is in train too"):
        climatenet(tmp_path)


@pytest.mark.skipif("XSPHERE_TEST_DATA" not in os.environ, reason="needs the data of the tests")
def test_published_names_are_understood() -> None:
    data = Path(os.environ["XSPHERE_TEST_DATA"])
    sums = dict(_read_sums(data / "labels" / "climatenet_v1_file_md5sums.txt"))
    matches = [NAME.fullmatch(name) for name in sums]
    assert len(sums) == 179
    assert all(match and time_of(match).year >= 2000 for match in matches)
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in sums.values())


TIMES = pd.DatetimeIndex(["1990-10-01T02", "1980-08-04T23"])


def write_large(folder: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One file for each class and time, as they are published."""
    drawn = {name: rng.random((2, 2, 9, 12)) < 0.3 for name in ("AR", "TC")}
    long = {"AR": "Atmospheric River (AR)", "TC": "Tropical Cyclone (TC)"}
    for name, values in drawn.items():
        (folder / name).mkdir(parents=True)
        for time, at_time in zip(TIMES, values, strict=True):
            coords = {"annotator": [0, 1], "latitude": LAT[::-1], "longitude": LON}
            label = xr.DataArray(at_time, coords, ("annotator", "latitude", "longitude"))
            label = label.assign_coords({"time": time, "class": long[name]}).rename("label")
            label.to_netcdf(folder / name / f"{time:%Y%m%dT%H}.nc", engine="netcdf4")
    return drawn


def test_two_annotators_are_soft_labels(
    tmp_path: Path, rng: np.random.Generator, lazily: Any
) -> None:
    drawn = write_large(tmp_path, rng)
    with lazily:
        labels = climatenet_large(tmp_path)
        both = annotator_mean(labels)
    assert labels.dims == ("time", "class", "annotator", "latitude", "longitude")
    assert labels.dtype == bool
    assert labels.get_index("time").equals(TIMES.sort_values())
    assert class_names(labels) == ("atmospheric_river", "tropical_cyclone")
    for n, values in enumerate(drawn.values()):
        np.testing.assert_array_equal(labels[:, n], values[::-1])
        np.testing.assert_allclose(both.probability[:, n], values[::-1].mean(1))
        np.testing.assert_allclose(both.spread[:, n], values[::-1].std(1))
    grid = xsphere.horizontal_grid(labels).grid
    shares = ClassShares.of(labels, CLASSES, grid)
    found = shares(shares.arranged(labels).values)[:, 1:].reshape(2, 2, 9, 12)
    ar, tc = (values[::-1].astype(float) for values in drawn.values())
    # where one annotator draws both, each gets half of the cell
    each = np.stack([tc, ar], 1) / np.maximum(tc + ar, 1)[:, None]
    np.testing.assert_allclose(found, each.mean(2))
    only = climatenet_large(tmp_path, "tropical_cyclone")
    np.testing.assert_array_equal(only[:, 0], drawn["TC"][::-1])


def test_blocking_has_times_of_its_own(tmp_path: Path, rng: np.random.Generator) -> None:
    write_large(tmp_path, rng)
    values = rng.random((10, 1, 2, 9, 12)) < 0.3
    coords = {
        "time": pd.date_range("2001-01-01", periods=10),
        "class": ["Blocking Event (BE)"],
        "annotator": [0, 1],
        "latitude": LAT[::-1],
        "longitude": LON,
    }
    (tmp_path / "blocking").mkdir()
    label = xr.DataArray(values, coords, name="label")
    label.to_netcdf(tmp_path / "blocking" / "2001.nc", engine="netcdf4")
    np.testing.assert_array_equal(climatenet_large(tmp_path, "blocking_event"), values)
    assert climatenet_large(tmp_path, CLASSES)["class"].values.tolist() == [*CLASSES]
    with pytest.raises(ValueError, match="no file has 2 times that other classes have") as error:
        climatenet_large(tmp_path)
    assert "no file has 10 times" in str(error.value)
    with pytest.raises(ValueError, match="classes must be some of"):
        climatenet_large(tmp_path, ["hail"])
    with pytest.raises(ValueError, match=r"blocking/2001\.nc: damaged"):
        climatenet_large(
            tmp_path, "blocking_event", checksums=sums_of(tmp_path) | {"2001.nc": "0" * 32}
        )


def test_bad_files_of_two_annotators_are_named_at_once(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    write_large(tmp_path, rng)
    first = xr.open_dataset(tmp_path / "AR" / f"{TIMES[0]:%Y%m%dT%H}.nc", engine="netcdf4").load()
    first.close()
    faults = {
        "other": (first.rename(label="mask"), "extra: it has no variable 'label'"),
        "timeless": (first.drop_vars("time"), "damaged: it has no coordinate ['time']"),
        "deep": (first.expand_dims("level"), "damaged: dimensions must be some of"),
        "dated": (first.assign_coords(time=3), "damaged: its times are no dates"),
        "shifted": (first.assign_coords(longitude=LON + 1), "not those of the other files"),
    }
    for name, (ds, _) in faults.items():
        ds.to_netcdf(tmp_path / "AR" / f"{name}.nc", engine="netcdf4")
    with pytest.raises(ValueError, match="not as published") as error:
        climatenet_large(tmp_path)
    lines = str(error.value).splitlines()[1:-1]
    assert len(lines) == len(faults)
    for name, (_, reason) in faults.items():
        assert any(line.startswith(f"  - AR/{name}.nc") and reason in line for line in lines), name
    for name in faults:
        (tmp_path / "AR" / f"{name}.nc").unlink()
    first.isel(annotator=[0]).to_netcdf(tmp_path / "AR" / "single.nc", engine="netcdf4")
    with pytest.raises(ValueError, match=r"single\.nc: it has 1 annotators, others 2"):
        climatenet_large(tmp_path)


def test_votes_of_those_who_say_something_count() -> None:
    attrs = {"flag_values": [0, 1, 2, 255], "flag_meanings": "background a b not_computed"}
    votes = np.array([[0, 1, 2, 255], [1, 1, 255, 255], [2, 1, 0, 255]], np.uint8)
    labels = xr.DataArray(votes[None], dims=("time", "annotator", "x"), attrs=attrs)
    found = annotator_mean(labels)
    assert found.probability.dims == ("time", "class", "x")
    expected = [[1 / 3, 1, 0, np.nan], [1 / 3, 0, 0.5, np.nan]]
    np.testing.assert_allclose(found.probability[0], expected, rtol=1e-6)
    spread = [[np.std([0, 1, 0]), 0, 0, np.nan], [np.std([0, 0, 1]), 0, 0.5, np.nan]]
    np.testing.assert_allclose(found.spread[0], spread, rtol=1e-6)
    with pytest.raises(ValueError, match="dimension 'annotator'"):
        annotator_mean(labels.isel(annotator=0))


MESH_LEVEL = 3


def write_mesh(folder: Path, rng: np.random.Generator, names: list[str], *, shift: float) -> Any:
    """Files on the published mesh, Tibet at longitudes that are off by `shift`."""
    lon, lat = vectors_to_lonlat(published_vertices(MESH_LEVEL))
    high = np.hypot((lon + shift) % 360 - 90, lat - 33) < 12
    data = rng.normal(size=(len(names), 16, len(lon))).astype("f4")
    data[:, 6] = np.where(high, 55_000, 101_000)
    classes = rng.integers(0, 3, (len(names), len(lon)))
    labels = (classes[:, None] == np.arange(3)[:, None]).astype("f4")
    for name, fields, drawn in zip(names, data, labels, strict=True):
        np.savez(folder / name, data=fields, labels=drawn)
    return data, classes


@pytest.mark.parametrize("shift", [0.0, 180.0])
def test_icosahedral_files_are_what_they_hold(
    tmp_path: Path, rng: np.random.Generator, lazily: Any, shift: float
) -> None:
    names = [f"data-2106-01-{day:02d}-0{step}-1-mesh.npz" for day in (2, 1) for step in (7, 0)]
    data, classes = write_mesh(tmp_path, rng, names, shift=shift)
    with lazily:
        fields, labels = deepsphere_climate(tmp_path)
    order = [3, 2, 1, 0]
    assert [*fields] == [*CHANNELS]
    expected = ["2106-01-01T00", "2106-01-01T21", "2106-01-02T00", "2106-01-02T21"]
    assert fields.get_index("time").equals(pd.DatetimeIndex(expected))
    for n, name in enumerate(CHANNELS):
        np.testing.assert_array_equal(fields[name], data[order, n])
    np.testing.assert_array_equal(labels, classes[order])
    assert class_names(labels) == CLASSES
    lon, lat = vectors_to_lonlat(published_vertices(MESH_LEVEL))
    assert xsphere.horizontal_grid(fields).grid == PointGrid((lon + shift) % 360, lat)


def test_vertices_are_in_the_published_order() -> None:
    # of the published program, level 5
    vertices = published_vertices(5)
    expected = {
        12: (0.0, 0.0, 1.0),
        50: (-0.69378, -0.702046, -0.160622),
        5000: (0.841094, 0.443956, -0.308973),
        10241: (-0.494553, -0.059926, -0.867079),
    }
    assert vertices.shape == (10242, 3)
    np.testing.assert_allclose([vertices[n] for n in expected], [*expected.values()], atol=1e-6)


def test_cells_in_another_order_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    name = "data-2106-01-01-00-1-mesh.npz"
    data, classes = write_mesh(tmp_path, rng, [name], shift=0.0)
    np.savez(tmp_path / name, data=data[0][:, ::-1], labels=np.eye(3)[classes[0]].T)
    with pytest.raises(ValueError, match="the cells are in another order"):
        deepsphere_climate(tmp_path)
    grid = PointGrid.icosahedral(MESH_LEVEL)
    assert xsphere.horizontal_grid(deepsphere_climate(tmp_path, grid=grid).fields).grid == grid
    with pytest.raises(ValueError, match="grid must have the 642 cells"):
        deepsphere_climate(tmp_path, grid=PointGrid.icosahedral(1))


def test_runs_and_splits_are_chosen(tmp_path: Path, rng: np.random.Generator) -> None:
    names = [f"data-2106-01-0{day}-00-{run}-mesh.npz" for day in (1, 2) for run in (1, 6)]
    _, classes = write_mesh(tmp_path, rng, names, shift=0.0)
    with pytest.raises(ValueError, match=re.escape("runs [1, 6] have the same times")):
        deepsphere_climate(tmp_path)
    with pytest.raises(ValueError, match=re.escape("run must be one of [1, 6]")):
        deepsphere_climate(tmp_path, run=2)
    np.testing.assert_array_equal(deepsphere_climate(tmp_path, run=6).labels, classes[[1, 3]])
    (tmp_path / "train_split.txt").write_text("\n".join(names[:1]) + "\n")
    split = deepsphere_climate(tmp_path, names=tmp_path / "train_split.txt")
    np.testing.assert_array_equal(split.labels, classes[:1])
    (tmp_path / names[1]).write_bytes((tmp_path / names[1]).read_bytes()[:-200])
    np.savez(tmp_path / names[2], data=np.zeros((16, 3)), labels=np.zeros((3, 3)))
    np.savez(tmp_path / "stats.npz", mean=0)
    with pytest.raises(ValueError, match="not as published") as error:
        deepsphere_climate(tmp_path, names=[*names, "stats.npz", "data.npz"])
    lines = str(error.value).splitlines()[1:-1]
    assert len(lines) == 4
    for name, reason in (
        (names[1], "damaged"),
        (names[2], "damaged: it holds"),
        ("stats.npz", "extra"),
        ("data.npz", "missing: it is in the list of names"),
    ):
        assert any(line.startswith(f"  - {name}: {reason}") for line in lines), name


def test_files_that_are_damaged_later_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    names = [f"data-2106-01-0{day}-00-1-mesh.npz" for day in (1, 2)]
    write_mesh(tmp_path, rng, names, shift=0.0)
    labels = deepsphere_climate(tmp_path).labels
    (tmp_path / names[1]).write_bytes(b"PK")
    with pytest.raises(ValueError, match=f"{names[1]}.*is damaged"):
        labels.compute()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["climatenet", "deepsphere"])
def test_fit_segment_and_evaluate_take_them_as_they_are(
    tmp_path: Path, rng: np.random.Generator, layout: str
) -> None:
    opened: Callable[..., Any]
    if layout == "climatenet":
        for day in (1, 2, 3):
            for annotator in (0, 1):
                ds = physical(published_map(rng))
                name = f"data-2000-01-0{day}-01-1_{annotator}.nc"
                ds.to_netcdf(tmp_path / name, engine="netcdf4")
        opened = climatenet
    else:
        names = [f"data-2106-01-0{day}-00-1-mesh.npz" for day in (1, 2, 3)]
        write_mesh(tmp_path, rng, names, shift=0.0)
        opened = deepsphere_climate
    fields, labels = opened(tmp_path)
    model = xsphere.fit(
        fields,
        labels,
        level=2,
        validation=0.3,
        valid_ranges=None,
        architecture={"features": (4,), "depths": (0,)},
        options=TrainingOptions(epochs=1),
        progress=False,
    )
    assert model.classes == CLASSES
    assert [variable.name for variable in model.spec.variables] == [*CHANNELS]
    mask = xsphere.segment(fields, model)
    assert mask.sizes["time"] == 3
    report = xsphere.evaluate(model, labels, fields, n_samples=10, block="1D")
    assert {*CLASSES} <= set(report.scores.group.values.tolist())
    assert report.scores.iou.notnull().any()


def physical(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign(PS=ds.PS + 1e5, PSL=ds.PSL + 1e5)


@pytest.mark.slow  # 10,242 Voronoi cells
def test_labels_of_points_keep_their_areas(tmp_path: Path, rng: np.random.Generator) -> None:
    write_mesh(tmp_path, rng, ["data-2106-01-01-00-1-mesh.npz"], shift=0.0)
    labels = deepsphere_climate(tmp_path).labels
    points, target = xsphere.horizontal_grid(labels).grid, xsphere.HealpixGrid(2)
    shares = ClassShares.of(labels, CLASSES, target)
    found = shares(shares.arranged(labels).values)[0] @ target.areas
    expected = [points.areas[labels.values[0] == value].sum() for value in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
