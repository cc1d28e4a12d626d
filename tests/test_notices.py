"""Warnings point at the code that users wrote."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsphere
from tests.toys import storm_dataset, storm_model
from xsphere.notices import PACKAGE, shortened, warn_user
from xsphere.segmentation import segment
from xsphere.stages import stage, timed

WARN = "def warn(): warn_user('look', UserWarning)"


def warned_from(filename: str) -> str:
    """File that a warning points at, which arises in a file of some name."""
    names: dict[str, object] = {"warn_user": warn_user}
    exec(compile(WARN, filename, "exec"), names)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        names["warn"]()  # type: ignore[operator]
    return seen[0].filename


@pytest.mark.parametrize("name", ["regridding/labelled.py", "cache.py"])
def test_code_of_the_package_is_passed_over(name: str) -> None:
    assert warned_from(PACKAGE + name) == __file__


@pytest.mark.parametrize("name", ["-project/run.py", "_tools.py"])
def test_a_name_that_goes_on_is_not_the_package(name: str) -> None:
    filename = PACKAGE.rstrip("/\\") + name
    assert warned_from(filename) == filename


LONG = "x" * 100_000
HOSTILE_ATTRIBUTES: dict[str, Any] = {
    "units": LONG,
    "standard_name": LONG,
    "flag_values": list(range(10_000)),
    "flag_meanings": LONG,
    "grid_mapping_name": LONG,
    "cell_methods": LONG,
    "scale_factor": LONG,
}


def crowded() -> xr.Dataset:
    """Many variables with long names, and long attributes wherever one is read."""
    names = [f"{number:05d}{'y' * 200}" for number in range(200)]
    ds = xr.Dataset({name: ("z", [0.0]) for name in names})
    return ds.assign_coords({f"c{name}": 0.0 for name in names[:100]})


def with_attributes(**attributes: Any) -> xr.Dataset:
    ds = storm_dataset(1)
    for array in ds.variables.values():
        array.attrs |= attributes
    return ds


CALLS: dict[str, Callable[[xr.Dataset], object]] = {
    "segment": lambda ds: segment(ds, storm_model()),
    "to_healpix": lambda ds: ds.sphere.to_healpix(2),
    "events": lambda ds: ds[next(iter(ds))].sphere.events(),
    "vorticity": lambda ds: ds.sphere.vorticity(),
    "cache": lambda ds: ds.sphere.cache(2, "none.zarr", variables=["no such"]),
    "fit": lambda ds: xsphere.fit(ds, ds[next(iter(ds))], variables=["fog"]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["crowded", *HOSTILE_ATTRIBUTES])
def test_what_datasets_say_is_quoted_in_short(call: str, kind: str) -> None:
    ds = crowded() if kind == "crowded" else with_attributes(**{kind: HOSTILE_ATTRIBUTES[kind]})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            CALLS[call](ds)
        except (ValueError, TypeError, KeyError) as error:
            seen.append(error)  # type: ignore[arg-type]
    for said in seen:
        assert len(str(getattr(said, "message", said))) < 8000


@given(st.recursive(st.text(max_size=300) | st.integers() | st.floats(), st.lists))
def test_shortened_is_repr_or_shorter(value: Any) -> None:
    text = shortened(value)
    assert len(text) <= len(repr(value)) + 3
    if len(repr(value)) < 100 and not isinstance(value, list):
        assert text == repr(value)


def test_stages_within_stages_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 13.0])
    monkeypatch.setattr("xsphere.stages.time.perf_counter", lambda: next(now))
    with timed() as seconds:
        with stage("read"), stage("regrid"):
            pass
        with stage("read"):
            pass
    assert seconds == {"read": 1.0 + 3.0 + 3.0, "regrid": 2.0}
