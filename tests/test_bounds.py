"""Values that no field can have: 254 where they are, said once, and nothing else changes."""

import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.tiers import examples
from tests.toys import storm_dataset, storm_model, storm_spec
from xsphere.conventions import INVALID
from xsphere.fitting import fit
from xsphere.grids import HealpixGrid, LatLonGrid
from xsphere.model import InvalidInputWarning, Model, Variable
from xsphere.model.bounds import VALID_RANGES, beyond, source_bounds, touched_cells, usual_bounds
from xsphere.nn.training import TrainingOptions
from xsphere.notices import OncePerRun
from xsphere.segmentation import UnlikelyInputWarning, segment
from xsphere.segmentation.plausibility import check_plausible
from xsphere.weights import conservative_weights

LEVEL = 2
RANGES = {"PSL": (80000.0, 120000.0), "U850": (-200.0, 200.0), "V850": (-200.0, 200.0)}


def bounded_model(level: int = LEVEL) -> Model:
    """The toy model with the bounds of its variables, in its units."""
    spec = storm_spec(level)
    variables = tuple(replace(v, valid_range=RANGES[v.name]) for v in spec.variables)
    return Model.untrained(replace(spec, variables=variables))


def spoilt(values: dict[tuple[str, int, int, int], float], n_times: int = 4) -> xr.Dataset:
    ds = storm_dataset(n_times)
    for (name, *place), value in values.items():
        ds[name][tuple(place)] = value
    return ds


BAD = {("PSL", 1, 9, 20): -9999.0, ("U850", 2, 4, 3): 1e9, ("V850", 2, 14, 8): -9999.0}


def touched(places: list[tuple[int, int]]) -> np.ndarray:
    """Cells that overlap some cells of the source, by the weights themselves."""
    ds = storm_dataset(1)
    grid = LatLonGrid(ds.lon.values, ds.lat.values)
    weights = conservative_weights(grid, HealpixGrid(LEVEL)).toarray()
    columns = [row * ds.sizes["lon"] + column for row, column in places]
    return weights[:, columns].sum(1) > 0


def expected(clean: np.ndarray) -> np.ndarray:
    """254 at the cells of a bad value, and for winds at their neighbours as derivatives have it."""
    invalid = np.zeros(clean.shape, bool)
    invalid[1] = touched([(9, 20)])
    wind = touched([(4, 3), (14, 8)])
    winds = np.where(wind, np.nan, 1.0)[None]
    model = bounded_model()
    fields = [np.full_like(winds, 101000.0), winds, winds]
    invalid[2] = ~model.channels(*fields)[1][0]
    return invalid


def opened(path: Path, kind: str) -> Any:
    match kind:
        case "memory":
            return spoilt(BAD)
        case "chunked in memory":
            return spoilt(BAD).chunk(time=1)
        case "path":
            return path
        case "unread":
            return xr.open_zarr(path, chunks=None, consolidated=False)
        case "chunked":
            return xr.open_zarr(path, chunks={"time": 2}, consolidated=False)
    ds = xr.open_zarr(path, chunks={}, consolidated=False)
    return ds.assign({name: ds[name].copy(data=ds[name].data * 1) for name in ds.data_vars})


KINDS = ["memory", "chunked in memory", "path", "unread", "chunked", "transformed"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    encoding = {name: {"chunks": (2, 19, 36)} for name in RANGES}
    spoilt(BAD).to_zarr(tmp_path / "a.zarr", encoding=encoding, consolidated=False)
    return tmp_path / "a.zarr"


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_value_is_invalid_where_it_lies_and_nowhere_else(store: Path, kind: str) -> None:
    model = bounded_model()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        mask = segment(opened(store, kind), model).compute()
    np.testing.assert_array_equal(mask == INVALID, expected(mask.values))
    said = [w for w in seen if w.category is InvalidInputWarning]
    assert len(said) >= 1
    # maps without a bad value have the bits that they had
    clean = segment(storm_dataset(4), model)
    np.testing.assert_array_equal(mask[[0, 3]], clean[[0, 3]])


def test_one_warning_counts_all_values_of_data_in_memory() -> None:
    values = {("PSL", t, 9, 20): -9999.0 for t in range(30)} | {("V850", 3, 4, 5): 4e4}
    ds = spoilt(values, 30)
    message = r"30 of 'PSL' \(-9999 to -9999; valid are 80000 to 1.2e\+05\), 1 of 'V850' \(40000"
    with pytest.warns(InvalidInputWarning, match=message) as seen:
        segment(ds, bounded_model())
    assert len(seen) == 1
    # another run of the same data says it again
    with pytest.warns(InvalidInputWarning, match=message):
        segment(ds, bounded_model())


def test_one_warning_a_lazy_run(store: Path) -> None:
    ds = spoilt({("PSL", t, 9, 20): -9999.0 for t in range(6)}, 6).chunk(time=1)
    mask = segment(ds, bounded_model())
    with pytest.warns(InvalidInputWarning, match="1 of 'PSL'") as seen:
        mask.compute()
    assert len(seen) == 1


def test_a_run_stays_one_run_on_its_way_to_workers() -> None:
    run = OncePerRun()
    assert run.first("look")
    assert not pickle.loads(pickle.dumps(run)).first("look")


def test_bounds_are_in_the_units_of_the_model() -> None:
    ds = storm_dataset(2)
    attrs = ds.PSL.attrs
    ds["PSL"] = (ds.PSL / 100).assign_attrs(attrs | {"units": "hPa"})
    ds.PSL[0, 3, 3] = 1300.0
    ds.PSL[1, 3, 3] = 870.0
    with pytest.warns(InvalidInputWarning, match=r"1 of 'PSL' \(1300 to 1300; valid are 800 to"):
        mask = segment(ds, bounded_model())
    assert (mask[0] == INVALID).any()
    assert not (mask[1] == INVALID).any()


def test_missing_values_are_no_bad_values() -> None:
    ds = storm_dataset(2)
    ds.PSL[:, 3:7] = np.nan
    ds.U850[0, 2, 2] = np.inf
    plain = segment(ds, storm_model())
    np.testing.assert_array_equal(segment(ds, bounded_model()), plain)


def test_data_on_the_grid_of_the_model_are_checked_too() -> None:
    ds = storm_dataset(1).sphere.to_healpix(LEVEL, method="conservative")
    ds.PSL[0, 17] = -9999.0
    with pytest.warns(InvalidInputWarning, match="1 of 'PSL'"):
        mask = segment(ds, bounded_model())
    assert np.flatnonzero(mask[0] == INVALID).tolist() == [17]


def test_a_wrong_unit_everywhere_is_said_and_leaves_nothing() -> None:
    ds = storm_dataset(1)
    ds["PSL"] = (ds.PSL / 100).assign_attrs(ds.PSL.attrs)
    with pytest.warns(InvalidInputWarning, match="check the units attribute"):
        assert (segment(ds, bounded_model()) == INVALID).all()


def test_the_bundled_model_has_bounds() -> None:
    ranges = {v.name: v.valid_range for v in Model.load("tc-ar").spec.variables}
    assert ranges == {"TMQ": (-1.0, 150.0), **RANGES}
    ds = xsphere.sample_dataset()
    clean = ds.sphere.segment("tc-ar")
    ds = ds.copy(deep=True)
    ds.PSL[0, 36, 70] = -9999.0
    with pytest.warns(InvalidInputWarning, match="1 of 'PSL'"):
        mask = ds.sphere.segment("tc-ar")
    changed = (mask != clean).values
    assert 0 < (mask == INVALID).sum() < 10
    assert changed.sum() < 20


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "i4", "u2"])
@examples(25)
@given(data=st.data())
def test_beyond_is_what_lies_outside(dtype: str, data: st.DataObject) -> None:
    kind = np.dtype(dtype)
    numbers = st.floats(-3e4, 3e4) if kind.kind == "f" else st.integers(0, 3000)
    values = np.array(data.draw(st.lists(numbers, min_size=6, max_size=6)), dtype).reshape(2, 3)
    if kind.kind == "f" and data.draw(st.booleans()):
        values[0, 1] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    low, high = sorted([data.draw(st.floats(-1e5, 1e5)), data.draw(st.floats(-1e5, 1e5))])
    found = beyond(values, (low, high))
    near = np.isclose(values.astype(float), low, rtol=1e-3) | np.isclose(
        values.astype(float), high, rtol=1e-3
    )
    with np.errstate(invalid="ignore"):
        right = np.isfinite(values) & ((values.astype(float) < low) | (values.astype(float) > high))
    got = np.zeros(values.shape, bool) if found is None else found
    np.testing.assert_array_equal(got[~near], right[~near])


@given(st.floats(0.01, 100), st.floats(-300, 300), st.booleans())
def test_bounds_of_the_source_are_those_of_converted_values(
    factor: float, offset: float, negative: bool
) -> None:
    factor = -factor if negative else factor
    bounds = source_bounds((80.0, 120.0), factor, offset)
    assert bounds is not None
    back = sorted(factor * bound + offset for bound in bounds)
    np.testing.assert_allclose(back, (80.0, 120.0), rtol=1e-3, atol=1e-3)


def test_touched_cells_are_those_with_a_weight() -> None:
    marks = np.zeros((2, 48), bool)
    marks[0, 7] = marks[1, 40] = True
    for method in ("conservative", "conservative2", "nearest"):
        found = touched_cells(marks, HealpixGrid(1), HealpixGrid(2), method)
        for row, cell in enumerate((7, 40)):
            np.testing.assert_array_equal(np.flatnonzero(found[row]), 4 * cell + np.arange(4))


def test_usual_bounds_hold_the_records_of_the_world() -> None:
    records = {
        ("air_pressure_at_mean_sea_level", "hPa"): (870.0, 1084.8),
        ("atmosphere_mass_content_of_water_vapor", "kg m-2"): (0.0, 90.0),
        ("eastward_wind", "knot"): (-300.0, 300.0),
        ("air_temperature", "degC"): (-150.0, 60.0),
        ("specific_humidity", "g/kg"): (0.0, 40.0),
        ("relative_humidity", "%"): (0.0, 150.0),
    }
    for (name, units), (low, high) in records.items():
        bounds = usual_bounds(name, units)
        assert bounds is not None
        assert bounds[0] < low < high < bounds[1]
        assert bounds[0] > -9999.0
    assert usual_bounds("eastward_wind", "K") is usual_bounds("turbidity", "1") is None
    assert all(low < high for _, low, high in VALID_RANGES.values())


def windy(ds: xr.Dataset) -> xr.DataArray:
    labels = (np.hypot(ds.U850, ds.V850) > 14.0).astype(np.uint8)
    labels.attrs = {"flag_values": [0, 1], "flag_meanings": "background gale"}
    return labels


def trained(ds: xr.Dataset, labels: xr.DataArray, **options: Any) -> Model:
    settings: dict[str, Any] = {
        "architecture": {"features": (4,), "depths": (0,)},
        "level": LEVEL,
        "variables": ("PSL", "U850", "V850"),
        "validation": 0.25,
        "progress": False,
        "options": TrainingOptions(epochs=1),
    }
    return fit(ds, labels, **(settings | options))


def test_fit_writes_bounds_and_trains_within_them(store: Path) -> None:
    labels = windy(storm_dataset(4))
    with pytest.warns(InvalidInputWarning, match="1 of 'PSL'") as seen:
        model = trained(spoilt(BAD), labels)
    assert len(seen) == 1
    assert {v.name: v.valid_range for v in model.spec.variables} == RANGES
    # the mean is not that of -9999
    assert model.spec.channels[0].mean == pytest.approx(101000, rel=1e-3)
    assert Model.load(model.save(store.parent / "m.safetensors")).spec == model.spec
    with pytest.warns(InvalidInputWarning):
        assert trained(opened(store, "unread"), labels) == model


def test_bounds_of_fit_can_be_chosen() -> None:
    ds = storm_dataset(4)
    labels = windy(ds)
    chosen = trained(ds, labels, valid_ranges={"U850": (-90.0, 90.0), "PSL": None})
    ranges = {v.name: v.valid_range for v in chosen.spec.variables}
    assert ranges == {"PSL": None, "U850": (-90.0, 90.0), "V850": (-200.0, 200.0)}
    free = trained(ds, labels, valid_ranges=None)
    assert {v.valid_range for v in free.spec.variables} == {None}
    own = Variable(name="PSL", units="Pa", valid_range=(5e4, 2e5))
    assert trained(ds, labels, variables=(own,)).spec.variables[0].valid_range == (5e4, 2e5)
    with pytest.raises(ValueError, match=r"valid_ranges names \['fog'\], but the variables are"):
        trained(ds, labels, valid_ranges={"fog": (0.0, 1.0)})
    with pytest.raises(ValueError, match="must be 'auto', a dict or None, got 'narrow'"):
        trained(ds, labels, valid_ranges="narrow")
    with pytest.raises(ValueError, match="valid_range of PSL must be the lowest and the highest"):
        trained(ds, labels, valid_ranges={"PSL": (2.0, 1.0)})
    nothing = pytest.raises(ValueError, match=r"\['PSL'\] have no valid value .* valid_ranges=")
    with nothing, pytest.warns(InvalidInputWarning):
        trained(ds, labels, valid_ranges={"PSL": (0.0, 1.0)})


@pytest.mark.parametrize("region", [{"lat": slice(60, 90)}, {"lat": slice(-5, 5)}])
def test_regions_are_plausible(region: dict[str, slice]) -> None:
    """Channels that no user gave are not judged, and cells without data do not count."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnlikelyInputWarning)
        segment(storm_dataset(1).sel(region), storm_model())
        segment(storm_dataset(1).sel(region).isel(lon=slice(0, 12)), storm_model())
        xsphere.sample_dataset().sortby("lat").sel(region).sphere.segment("tc-ar")


def test_plausibility_is_of_cells_that_count() -> None:
    model = storm_model()
    channels = np.zeros((1, model.grid.n_cells, 4), np.float32)
    valid = np.zeros(channels.shape[:2], bool)
    valid[0, :5] = True
    # far away where it does not count, and what is derived everywhere
    channels[0, 5:, 0] = 1e6
    channels[..., 1:] = 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_plausible(model, channels, valid, OncePerRun())
    channels[0, :5, 0] = 50.0
    with pytest.warns(UnlikelyInputWarning, match="'PSL' .* is 50 standard deviations"):
        check_plausible(model, channels, valid, OncePerRun())


def test_each_run_says_what_is_unlikely_once() -> None:
    ds = storm_dataset(12)
    wrong = ds.assign(PSL=(ds.PSL / 100).assign_attrs(ds.PSL.attrs))
    for _ in range(2):
        with pytest.warns(UnlikelyInputWarning, match="'PSL'") as seen:
            segment(wrong, storm_model())
        assert len(seen) == 1


def test_the_record_tells_bounds_apart() -> None:
    ds = storm_dataset(1)
    records = [
        segment(ds, model).attrs["xsphere_run"] for model in (storm_model(), bounded_model())
    ]
    digests = [json.loads(record)["model"] for record in records]
    assert digests[0] != digests[1]
