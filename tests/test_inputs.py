"""Variables found by standard name, alias or name; units converted or refused; all at once."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.tiers import examples
from tests.toys import storm_dataset, storm_spec
from xsphere.model.inputs import InputsError, matched_variables
from xsphere.model.units import UnitsError, unit_conversion


def names(ds: xr.Dataset) -> list[object]:
    return [match.array.name for match in matched_variables(ds, storm_spec())]


def test_found_by_standard_name_whatever_they_are_called() -> None:
    ds = storm_dataset().rename(PSL="a", U850="b", V850="c")
    # winds need a surface: only a vertical coordinate can tell it where the name does not
    ds = ds.assign_coords(pressure=((), 85000.0, {"units": "Pa"}))
    assert names(ds) == ["a", "b", "c"]


def test_found_by_alias_and_name() -> None:
    ds = storm_dataset().rename(PSL="msl", U850="u850")
    for array in ds.values():
        array.attrs.pop("standard_name")
    assert names(ds) == ["msl", "u850", "V850"]


def test_wind_of_another_height_is_not_taken() -> None:
    ds = storm_dataset()
    ds["U10"] = ds["U850"].copy()
    assert names(ds) == ["PSL", "U850", "V850"]
    with pytest.raises(InputsError, match=r"U850: missing.*on the 850 hPa surface"):
        names(ds.drop_vars("U850"))


@pytest.mark.parametrize(
    ("levels", "attrs"),
    [
        ([1000.0, 850.0, 500.0], {"units": "hPa"}),
        ([100000.0, 85000.0], {"units": "Pa", "standard_name": "air_pressure"}),
        ([1000, 850], {}),
        ([1000, 850], {"units": "millibars"}),
    ],
)
def test_surface_is_taken_from_a_vertical_dimension(
    levels: list[float], attrs: dict[str, str]
) -> None:
    ds = storm_dataset()
    factors = xr.DataArray(np.arange(len(levels)), dims="level")
    stacked = {
        new: (ds[old] + factors).assign_attrs(ds[old].attrs).astype(np.float32)
        for new, old in (("u", "U850"), ("v", "V850"))
    }
    ds = ds.drop_vars(["U850", "V850"]).assign(stacked)
    ds = ds.assign_coords(level=("level", levels, attrs))
    match = matched_variables(ds, storm_spec())[1]
    assert match.array.dims == ("time", "lat", "lon")
    np.testing.assert_array_equal(match.array, ds["u"].isel(level=1))


def test_heights_in_metres_are_no_pressure() -> None:
    ds = storm_dataset().rename(U850="u", V850="v")
    ds = ds.expand_dims(height=[850.0, 10.0]).assign_coords(
        height=("height", [850.0, 10.0], {"units": "m"})
    )
    with pytest.raises(InputsError, match="U850: missing"):
        names(ds)


def test_heights_without_units_are_no_pressure() -> None:
    ds = storm_dataset().rename(U850="u", V850="v").expand_dims(height=[850.0, 10.0])
    with pytest.raises(InputsError, match="U850: missing"):
        names(ds)


def test_units_are_converted() -> None:
    ds = storm_dataset()
    ds["PSL"] = (ds["PSL"] / 100).assign_attrs(ds["PSL"].attrs | {"units": "hPa"})
    match = matched_variables(ds, storm_spec())[0]
    assert (match.factor, match.offset) == (100.0, 0.0)


def test_everything_wrong_is_said_at_once() -> None:
    ds = storm_dataset().drop_vars("V850")
    ds["PSL"].attrs["units"] = "K"
    del ds["U850"].attrs["units"]
    with pytest.raises(InputsError) as caught:
        names(ds)
    text = str(caught.value)
    assert "PSL: units 'K' cannot be converted to 'Pa'" in text
    assert "U850: 'U850' has no units attribute" in text
    assert "V850: missing: nothing has standard_name 'northward_wind'" in text
    assert "The dataset has PSL (air_pressure_at_mean_sea_level, K)" in text


def test_ambiguous_variables_are_refused() -> None:
    ds = storm_dataset()
    ds = ds.assign(one=ds["PSL"], two=ds["PSL"]).drop_vars("PSL")
    with pytest.raises(InputsError, match=r"several variables fit: \['one', 'two'\]"):
        names(ds)


def test_known_name_settles_a_tie() -> None:
    ds = storm_dataset()
    assert names(ds.assign(other=ds["PSL"]))[0] == "PSL"


def test_own_name_goes_before_aliases() -> None:
    ds = storm_dataset()
    for array in ds.values():
        array.attrs.pop("standard_name")
    both = ds.assign(msl=ds["PSL"], u850=ds["U850"])
    assert names(both) == ["PSL", "U850", "V850"]
    assert names(both.drop_vars(["PSL", "U850"])) == ["msl", "u850", "V850"]


def test_packed_integers_are_refused() -> None:
    ds = storm_dataset()
    ds["PSL"].attrs["scale_factor"] = 0.1
    with pytest.raises(InputsError, match=r"packed integers.*mask_and_scale=True"):
        names(ds)


def test_text_is_refused() -> None:
    ds = storm_dataset()
    ds["PSL"] = ds["PSL"].astype(str).assign_attrs(ds["PSL"].attrs)
    with pytest.raises(InputsError, match="must be numeric"):
        names(ds)


@pytest.mark.parametrize(
    ("source", "target", "value", "expected"),
    [
        ("hPa", "Pa", 1013.25, 101325.0),
        ("degC", "K", 20.0, 293.15),
        ("g/kg", "kg kg-1", 5.0, 0.005),
        ("g kg**-1", "1", 5.0, 0.005),
        ("m**2 s**-2", "m", 9806.65, 1000.0),
        ("gpm", "m", 5500.0, 5500.0),
        ("mm", "kg m-2", 30.0, 30.0),
        ("mm/day", "kg m-2 s-1", 86.4, 0.001),
        ("knot", "m s-1", 100.0, 51.4444),
        ("m s**-1", "m s-1", 3.0, 3.0),
        ("%", "1", 50.0, 0.5),
        ("degF", "K", 32.0, 273.15),
    ],
)
def test_conversions(source: str, target: str, value: float, expected: float) -> None:
    factor, offset = unit_conversion(source, target)
    assert factor * value + offset == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("source", "target"), [("K", "Pa"), ("m", "s"), ("Pa s-1", "Pa")])
def test_other_quantities_are_refused(source: str, target: str) -> None:
    with pytest.raises(UnitsError, match="cannot be converted"):
        unit_conversion(source, target)


def test_unreadable_units_are_refused() -> None:
    with pytest.raises(UnitsError, match="cannot be read"):
        unit_conversion("furlongs per fortnightly", "m s-1")


SPELLINGS = {
    "Pa": [
        "pascal",
        "Pascals",
        "PASCALS",
        "N/m2",
        "N m-2",
        "newtons per square meter",
        "kg m-1 s-2",
    ],
    "hPa": ["hectopascal", "HectoPascals", "HECTOPASCALS", "millibars", "Millibar", "mb", "mbar"],
    "m s-1": [
        "Meters per second",
        "METERS PER SECOND",
        "metres/second",
        "m/sec",
        "m s^-1",
        "m.s-1",
        "m s**-1",
        "m*s-1",
        "m·s-1",
        "m s⁻¹",
        "m s\N{MINUS SIGN}1",
        "meter second-1",
        " m  s-1 ",
        "(m)/(s)",
    ],
    "kg m-2": [
        "kg/m2",
        "kg m**-2",
        "kg m^-2",
        "kg.m-2",
        "Kilograms per square metre",
        "kg per m2",
        "kg/(m2)",
        "kilogram meter-2",
        "10^3 g m-2",
        "1e3 g/m^2",
    ],
    "K": ["kelvin", "Kelvins", "KELVIN", "degK", "deg_K", "degrees K", "degree_Kelvin"],
    "degC": [
        "celsius",
        "Celsius",
        "degrees_Celsius",
        "degree_C",
        "deg C",
        "DEGREES CELSIUS",
        "°C",
        "C",
    ],
    "1": ["", "(0 - 1)", "fraction", "Dimensionless", "kg kg-1", "m3 m**-3"],
    "%": ["percent", "Percent", "0.01"],
    "mm": ["millimeter", "Millimetres", "0.1 cm"],
    "mm/day": ["mm day-1", "mm d-1", "Millimeters per Day"],
    "knot": ["kt", "knots", "KNOTS", "kts"],
}


@pytest.mark.parametrize(("units", "text"), [(u, t) for u, ts in SPELLINGS.items() for t in ts])
def test_spellings_of_one_unit(units: str, text: str) -> None:
    factor, offset = unit_conversion(text, units)
    assert (factor, offset) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))


@pytest.mark.parametrize(
    ("text", "units", "factor"),
    [
        # the case of a prefix is its meaning
        ("mPa", "Pa", 1e-3),
        ("MPa", "Pa", 1e6),
        ("MilliPascals", "Pa", 1e-3),
        ("MEGAPASCALS", "Pa", 1e6),
        ("10^-5 s-1", "s-1", 1e-5),
        ("1e-3 kg/kg", "g kg-1", 1.0),
        ("m/s2", "m s-1 h-1", 3600.0),
        ("W/(m2 sr)", "mW m-2 sr-1", 1e3),
        ("degC/km", "K m-1", 1e-3),
    ],
)
def test_scales_of_units(text: str, units: str, factor: float) -> None:
    assert unit_conversion(text, units) == (pytest.approx(factor), 0.0)


@pytest.mark.parametrize("text", ["PA", "pa", "HPA", "hpa", "KG M-1 S-2", "M/S", "MB"])
def test_symbols_are_never_guessed_by_case(text: str) -> None:
    for target in ("Pa", "m s-1"):
        with pytest.raises(UnitsError, match=r"cannot be (read|converted)"):
            unit_conversion(text, target)


HOSTILE = [
    "9**9**9**9",
    "10**10**10 kg",
    "10^99 kg",
    "kg**9**9",
    "m^(2^9)",
    "((((((((m))))))))",
    "(m12)12",
    "(1e30)12 m",
    "kg" * 50_000,
    "1" * 100_000,
    "(" * 100_000,
    "m " * 100_000,
    "__import__('os').system('true')",
    "x.__class__",
    "m if 1 else s",
    "1e999 m",
    "0 m",
    "m\x00",
    "m; s",
    "lambda: m",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_hostile_units_are_refused_and_quoted_in_short(text: str) -> None:
    for pair in ((text, "kg m-2"), ("kg m-2", text)):
        with pytest.raises(UnitsError, match=r"cannot be (read|converted)") as caught:
            unit_conversion(*pair)
        assert len(str(caught.value)) < 500


@examples(300)
@given(st.text(alphabet="0123456789*^()/. -+eEmskgPad%µ°", max_size=120))
def test_any_text_is_units_or_refused(text: str) -> None:
    try:
        factor, offset = unit_conversion(text, "Pa")
    except UnitsError:
        return
    assert np.isfinite([factor, offset]).all()


@given(
    st.lists(
        st.tuples(st.sampled_from(["m", "s", "kg", "K", "Pa"]), st.integers(-4, 4)), min_size=1
    ).filter(lambda factors: len(factors) < 6),
    st.sampled_from(["{}{}", "{}^{}", "{}**{}", "{} ^ {}"]),
    st.sampled_from([" ", ".", "*", " * "]),
)
def test_products_of_powers_are_read_as_they_are_written(
    factors: list[tuple[str, int]], power: str, product: str
) -> None:
    """Against the product of the base units' powers, in the metre-kilogram-second system."""
    base = {"m": (1, 0, 0, 0), "s": (0, 1, 0, 0), "kg": (0, 0, 1, 0), "K": (0, 0, 0, 1)}
    base["Pa"] = (-1, -2, 1, 0)
    total = sum(np.multiply(base[name], exponent) for name, exponent in factors)
    text = product.join(power.format(name, exponent) for name, exponent in factors)
    plain = " ".join(f"{n}{e}" for n, e in zip(["m", "s", "kg", "K"], total, strict=True))
    if np.abs(total).max() <= 12:
        assert unit_conversion(text, plain) == (pytest.approx(1.0), 0.0)
