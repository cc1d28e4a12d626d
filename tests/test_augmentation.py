"""Changes of training maps: what they do to fields, winds and labels, by other means."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import kstest

from tests.tiers import examples
from tests.toys import STANDARD_NAMES, storm_spec
from xsphere.augmentation import (
    Amplify,
    Augmentation,
    CutMix,
    InsertCyclones,
    Mirror,
    Noise,
    Smooth,
    Tilt,
    Turn,
    Vortex,
    Zoom,
    augmented,
)
from xsphere.augmentation.base import AugmentationError
from xsphere.augmentation.climatology import MEASURED, QUANTILES, WIND_QUANTILES, WINDS
from xsphere.augmentation.moves import Frame, dilated
from xsphere.augmentation.vortices import AIR_DENSITY, as_seen
from xsphere.grids import EARTH_RADIUS_KM, HealpixGrid, lonlat_to_vectors
from xsphere.model import Channel, ModelSpec, Variable, derived_field
from xsphere.regions.basins import basin_of
from xsphere.regions.land import is_land

LEVEL = 4
GRID = HealpixGrid(LEVEL)
ALL: list[Augmentation] = [
    Amplify(),
    CutMix(probability=1.0),
    InsertCyclones(class_name="cyclone", storms=3.0),
    Mirror(),
    Noise(),
    Smooth(scales=(300.0, 400.0)),
    Tilt(angle=20.0),
    Turn(),
    Zoom(),
]


def spec_of(level: int = LEVEL) -> ModelSpec:
    """Pressure, winds at 850 hPa and water vapour; classes cyclone and river."""
    spec = storm_spec(level)
    vapour = Variable(name="TMQ", units="kg m-2", standard_name=STANDARD_NAMES["TMQ"])
    return replace(
        spec,
        variables=(*spec.variables, vapour),
        channels=(*spec.channels, Channel(name="TMQ", sources=("TMQ",))),
    )


def maps(n: int = 2, level: int = LEVEL, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fields in the order PSL, U850, V850, TMQ, and labels."""
    rng = np.random.default_rng(seed)
    x, y, z = HealpixGrid(level).centres.T
    wave = rng.normal(size=(n, 4, 3)) @ np.stack([x, y, z * x])
    scales = np.array([800.0, 8.0, 8.0, 5.0])[:, None]
    means = np.array([101000.0, 2.0, 0.0, 45.0])[:, None]
    fields = (means + scales * wave).transpose(0, 2, 1).astype(np.float32)
    targets = rng.dirichlet((8, 1, 1), (n, x.size)).astype(np.float32)
    return fields, targets


def of_places(augment: list[Augmentation], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each cell's values come from, and the matrix if that is a rotation or a mirror."""
    spec = spec_of()
    scalars = tuple(Variable(name=name, units="1", standard_name=None) for name in ("a", "b", "c"))
    channels = tuple(Channel(name=v.name, sources=(v.name,)) for v in scalars)
    spec = replace(spec, variables=scalars, channels=channels)
    fields = GRID.centres.astype(np.float32)[None]
    targets = np.zeros((1, GRID.n_cells, 3), np.float32)
    found, _ = augmented(augment, fields, targets, np.random.default_rng(seed), spec)
    matrix = np.linalg.lstsq(GRID.centres, found[0].astype(float))[0].T
    return found[0], matrix


def solid_rotation(axis: np.ndarray, grid: HealpixGrid) -> np.ndarray:
    """Eastward and northward wind of a rotation about an axis, shape (n_cells, 2)."""
    lon = np.deg2rad(grid.centre_lonlat[0])
    flow = np.cross(axis, grid.centres)
    east = np.stack([-np.sin(lon), np.cos(lon), 0 * lon], -1)
    return np.stack([(flow * east).sum(-1), (flow * np.cross(grid.centres, east)).sum(-1)], -1)


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: type(entry).__name__)
def test_the_same_seed_gives_the_same_and_leaves_what_was_given(entry: Augmentation) -> None:
    fields, targets = maps(3)
    fields[:, ::97] = np.nan
    targets[:, ::89] = 0.0
    before = fields.copy(), targets.copy()
    first, again, other = (
        augmented([entry], fields, targets, np.random.default_rng(seed), spec_of())
        for seed in (1, 1, 2)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0], equal_nan=True)
    np.testing.assert_array_equal(fields, before[0])
    np.testing.assert_array_equal(targets, before[1])
    total = first[1].sum(-1)
    assert np.all((abs(total - 1) < 1e-5) | (total == 0))
    assert first[0].dtype == first[1].dtype == np.float32


@examples(20)
@given(st.integers(0, 10**6))
def test_rotations_take_winds_with_them(seed: int) -> None:
    """Moved coordinates tell the rotation; a solid rotation's wind must turn by it."""
    moves = [Turn(), Tilt(angle=90.0)]
    places, matrix = of_places(moves, seed)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=0.02)
    assert np.linalg.det(matrix) > 0
    np.testing.assert_allclose(places, GRID.centres @ matrix.T, atol=0.02)
    axis = np.array([0.3, -0.5, 0.8])
    fields, targets = maps(1)
    fields[0, :, 1:3] = 10 * solid_rotation(axis, GRID)
    moved, _ = augmented(moves, fields, targets, np.random.default_rng(seed), spec_of())
    # places = matrix @ points, so that what was at the axis is now at matrix.T @ axis
    np.testing.assert_allclose(
        moved[0, :, 1:3], 10 * solid_rotation(matrix.T @ axis, GRID), atol=0.2
    )


def test_turns_and_tilts_reach_all_rotations_evenly() -> None:
    rng = np.random.default_rng(0)
    pole = Frame(*(np.eye(3)[[axis]] for axis in (2, 0, 1)))
    turn, tilt = Turn(), Tilt(angle=180.0)
    ends = []
    for _ in range(2000):
        frame = pole
        for move in (tilt, turn):
            frame = move.drawn(rng)(frame)  # type: ignore[misc]
        ends.append([frame.points[0, 2], np.arctan2(frame.points[0, 1], frame.points[0, 0])])
    heights, angles = np.transpose(ends)
    # area is even in height and in longitude
    assert kstest(heights, "uniform", (-1, 2)).pvalue > 1e-3
    assert kstest(angles, "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-3


def test_turn_keeps_latitudes_and_zero_keeps_all() -> None:
    places, _ = of_places([Turn()], 5)
    np.testing.assert_allclose(places[:, 2], GRID.centres[:, 2], atol=0.02)
    places, _ = of_places([Turn(angle=0.0), Tilt(angle=0.0), Zoom(factor=(1.0, 1.0))], 5)
    np.testing.assert_allclose(places, GRID.centres, atol=1e-6)


def test_mirror_is_exact_and_its_own_inverse() -> None:
    fields, targets = maps()
    mirror = Mirror(probability=1.0)
    rng = np.random.default_rng(0)
    once = augmented([mirror], fields, targets, rng, spec_of())
    lon, lat = GRID.centre_lonlat
    across = GRID.cells_at(lon, -lat)
    np.testing.assert_array_equal(once[1], targets[:, across])
    np.testing.assert_array_equal(once[0][..., [0, 3]], fields[:, across][..., [0, 3]])
    np.testing.assert_allclose(once[0][..., 1:3], fields[:, across][..., 1:3] * [1, -1], atol=1e-5)
    twice = augmented([mirror], *once, rng, spec_of())
    np.testing.assert_allclose(twice[0], fields, rtol=1e-6, atol=1e-5)


def test_mirror_keeps_cyclones_cyclones() -> None:
    fields, targets = maps(1)
    wind = fields[0, :, 1:3].T
    before = derived_field("cyclonic_vorticity", GRID, *wind[:, None])[0]
    moved, _ = augmented(
        [Mirror(probability=1.0)], fields, targets, np.random.default_rng(0), spec_of()
    )
    after = derived_field("cyclonic_vorticity", GRID, *moved[0, :, 1:3].T[:, None])[0]
    lon, lat = GRID.centre_lonlat
    away = np.abs(lat) > 10
    difference = (after - before[GRID.cells_at(lon, -lat)])[away]
    assert np.abs(difference).max() < 1e-3 * np.abs(before).max()


@examples(20)
@given(st.integers(0, 10**6), st.floats(0.3, 3.0))
def test_zoom_is_conformal_and_undone_by_its_inverse(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    points, centre = rng.normal(size=(1, 50, 3)), rng.normal(size=3)
    points = points[0] / np.linalg.norm(points[0], axis=1, keepdims=True)
    centre /= np.linalg.norm(centre)
    east = np.cross([0.0, 0.0, 1.0], points)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    frame = Frame(points, east, np.cross(points, east))
    there = dilated(frame, centre, factor)
    back = dilated(there, centre, 1 / factor)
    for part in ("points", "east", "north"):
        np.testing.assert_allclose(getattr(back, part), getattr(frame, part), atol=1e-9)
    # a small step to the east goes along what east became, as far as one to the north does
    steps = [
        dilated(Frame(*(points + 1e-6 * d for _ in range(3))), centre, factor).points - there.points
        for d in (frame.east, frame.north)
    ]
    lengths = np.linalg.norm(steps, axis=-1)
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-3)
    np.testing.assert_allclose(steps[0] / lengths[0][:, None], there.east, atol=1e-3)


def test_amplitudes_grow_about_the_means_of_parallels() -> None:
    fields, targets = maps(1)
    changed, labels = augmented(
        [Amplify(factor=(2.0, 2.0))], fields, targets, np.random.default_rng(0), spec_of()
    )
    np.testing.assert_array_equal(labels, targets)
    lat = GRID.centre_lonlat[1].round(6)
    for ring in np.unique(lat)[::9]:
        own, new = fields[0, lat == ring].astype(float), changed[0, lat == ring].astype(float)
        np.testing.assert_allclose(new, 2 * own - own.mean(0), rtol=1e-5, atol=1e-3)


def test_noise_has_the_spread_that_is_asked_for_and_ranges_hold() -> None:
    spec = spec_of()
    bounded = tuple(
        replace(v, valid_range=(0.0, 47.0)) if v.name == "TMQ" else v for v in spec.variables
    )
    fields, targets = maps(1)
    changed, _ = augmented(
        [Noise(share=(0.1, 0.1))],
        fields,
        targets,
        np.random.default_rng(0),
        replace(spec, variables=bounded),
    )
    noise = (changed - fields)[0, :, :3]
    np.testing.assert_allclose(noise.std(0), 0.1 * fields[0, :, :3].std(0), rtol=0.05)
    assert changed[..., 3].max() <= 47.0


def test_smoothing_damps_waves_by_the_heat_kernel() -> None:
    fields, targets = maps(1)
    z = GRID.centres[:, 2]
    degree = 8
    wave = np.polynomial.legendre.legval(z, np.eye(degree + 1)[degree])
    fields[0, :, 0] = 1000 * wave
    fields[0, 5, 3] = np.nan
    changed, _ = augmented(
        [Smooth(scales=(500.0,))], fields, targets, np.random.default_rng(0), spec_of()
    )
    ratio = (changed[0, :, 0] @ wave) / (fields[0, :, 0] @ wave)
    expected = np.exp(-degree * (degree + 1) * (500.0 / EARTH_RADIUS_KM) ** 2 / 2)
    assert ratio == pytest.approx(expected, rel=0.03)
    assert np.isnan(changed[0, :, 3]).nonzero()[0].tolist() == [5]


def test_cut_mix_takes_a_cap_of_another_sample() -> None:
    fields, targets = maps(2)
    entry = CutMix(radius=(3000.0, 3000.0), rim=500.0, probability=1.0)
    changed, labels = augmented([entry], fields, targets, np.random.default_rng(3), spec_of())
    for index in range(2):
        other = 1 - index
        same = (changed[index] == fields[index]).all(-1)
        taken = (changed[index] == fields[other]).all(-1)
        areas = np.array([(~same).mean(), taken.mean()])
        caps = (1 - np.cos(np.array([3000.0, 2500.0]) / EARTH_RADIUS_KM)) / 2
        np.testing.assert_allclose(areas, caps, atol=0.012)
        np.testing.assert_array_equal(labels[index, taken], targets[other, taken])
        np.testing.assert_array_equal(labels[index, same], targets[index, same])


vortices = st.builds(
    Vortex,
    lon=st.floats(-180, 360),
    lat=st.floats(5, 40) | st.floats(-40, -5),
    wind=st.floats(8, 90),
    radius=st.floats(15, 250),
    shape=st.floats(1.0, 2.5),
    outer=st.floats(500, 900),
)


@examples(20)
@given(vortices)
def test_pressure_balances_the_gradient_wind(vortex: Vortex) -> None:
    coriolis = 2 * 2 * np.pi / 86164.1 * np.sin(np.deg2rad(abs(vortex.lat)))

    def slope(r: float) -> float:
        speed = float(vortex.speed(np.array(r)))
        return AIR_DENSITY * 1e3 * (speed**2 / (1e3 * r) + coriolis * speed)

    for distance in (2 * vortex.radius, 400.0):
        expected = quad(slope, distance, vortex.edge, limit=200, points=[vortex.outer])[0]
        found = vortex.deficit(np.array([distance, vortex.edge]))
        assert found[0] == pytest.approx(expected, rel=0.01, abs=2.0)
        assert found[1] == 0
    r = np.linspace(1, vortex.edge, 5000)
    assert vortex.speed(r).max() == pytest.approx(vortex.wind, rel=0.01)
    assert r[vortex.speed(r).argmax()] == pytest.approx(vortex.radius, abs=1.0)


def test_coarse_data_widen_the_core_and_keep_the_wind_outside() -> None:
    vortex = Vortex(lon=0.0, lat=15.0, wind=50.0, radius=30.0, shape=1.4, outer=900.0)
    seen = as_seen(vortex, 100.0)
    far = np.array([600.0, 800.0])
    np.testing.assert_allclose(seen.speed(far), vortex.speed(far), rtol=0.06)
    assert seen.wind < 0.6 * vortex.wind


@pytest.mark.parametrize("hemisphere", [1, -1])
def test_an_inserted_cyclone_is_one(hemisphere: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Low, moist, windy and cyclonic inside; nothing changes outside; labels as large as it."""
    from xsphere.augmentation import climatology

    place = (140.0, 18.0 * hemisphere)
    monkeypatch.setattr(climatology, "drawn_place", lambda _: place)
    spec, grid = spec_of(5), HealpixGrid(5)
    fields, targets = np.zeros((1, grid.n_cells, 4), np.float32), np.zeros((1, grid.n_cells, 3))
    fields[0] = [101000.0, -5.0, 0.0, 45.0]
    targets[..., 0] = 1.0
    targets = targets.astype(np.float32)
    entry = InsertCyclones(
        storms=100.0, lows=0.0, class_name="cyclone", extent=(400.0, 400.0), spacing=(100.0, 100.0)
    )
    changed, labels = augmented([entry], fields, targets, np.random.default_rng(2), spec)
    distance = EARTH_RADIUS_KM * np.arccos((grid.centres @ lonlat_to_vectors(*place)).clip(-1, 1))
    nearest = distance.argmin()
    change = changed[0] - fields[0]
    assert change[:, 0].min() < -150
    assert distance[change[:, 0].argmin()] < 150
    assert 58 <= changed[0, nearest, 3] <= 70
    spin = derived_field("cyclonic_vorticity", grid, *changed[0, :, 1:3].T[:, None])[0]
    assert spin[distance < 150].min() > 3e-5
    assert not change[distance > 3000].any()
    # one only: each place must lie far from the others
    is_cyclone = labels[0, :, 1] > 0.5
    area = grid.areas[is_cyclone].sum() * EARTH_RADIUS_KM**2
    assert area == pytest.approx(np.pi * 400**2, rel=0.2)
    assert distance[is_cyclone].max() < 560
    np.testing.assert_allclose(labels.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(labels[0, distance > 800], targets[0, distance > 800])


def test_lows_leave_labels_and_gaps_stay_gaps() -> None:
    fields, targets = maps(4, 5)
    spec = spec_of(5)
    fields[:, ::7] = np.nan
    targets[:, ::5] = 0.0
    lows = InsertCyclones(storms=0.0, lows=4.0, class_name="cyclone")
    changed, labels = augmented([lows], fields, targets, np.random.default_rng(0), spec)
    np.testing.assert_array_equal(labels, targets)
    assert np.nanmin(changed[..., 0] - fields[..., 0]) < -50
    storms = InsertCyclones(storms=4.0, lows=0.0, class_name="cyclone")
    changed, labels = augmented([storms], fields, targets, np.random.default_rng(0), spec)
    assert not np.array_equal(labels, targets)
    np.testing.assert_array_equal(np.isnan(changed), np.isnan(fields))
    assert not labels[:, ::5].any()


def test_a_dry_or_a_landlocked_map_gets_no_cyclone() -> None:
    fields, targets = maps(2, 5)
    fields[..., 3] = 10.0
    entry = InsertCyclones(storms=5.0, lows=5.0, class_name="cyclone")
    changed, labels = augmented([entry], fields, targets, np.random.default_rng(0), spec_of(5))
    np.testing.assert_array_equal(changed, fields)
    np.testing.assert_array_equal(labels, targets)


def other_variable(name: str, **entries: Any) -> ModelSpec:
    spec = spec_of()
    extra = Variable(name=name, **entries)
    return replace(
        spec,
        variables=(*spec.variables, extra),
        channels=(*spec.channels, Channel(name=name, sources=(name,))),
    )


def test_what_a_cyclone_would_change_is_written_or_refused() -> None:
    spec = other_variable("T500", units="K", standard_name="air_temperature", pressure=500.0)
    entry = InsertCyclones(class_name="cyclone")
    with pytest.raises(AugmentationError, match=r"not into .'T500'."):
        augmented([entry], *maps(1), np.random.default_rng(0), spec)
    assert not replace(entry, untouched=("T500",)).problems(spec)
    lone = other_variable("U200", units="m s-1", standard_name="eastward_wind", pressure=200.0)
    with pytest.raises(AugmentationError, match=r"'U200'. are components .* without the other"):
        augmented([Turn()], *maps(1), np.random.default_rng(0), lone)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Turn(angle=-1.0),
        lambda: Tilt(angle=200.0),
        lambda: Zoom(factor=(0.0, 1.0)),
        lambda: Zoom(factor=(2.0, 1.0)),
        lambda: Amplify(factor=(1.0, np.inf)),
        lambda: Noise(share=0.1),  # type: ignore[arg-type]
        lambda: CutMix(probability=1.5),
        lambda: Smooth(scales=()),
        lambda: Mirror(probability=True),
        lambda: InsertCyclones(storms=-1.0),
        lambda: InsertCyclones(extent=(600.0, 200.0)),
    ],
)
def test_values_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(AugmentationError, match="must be"):
        make()


@pytest.mark.slow
def test_climatology_is_that_of_the_best_tracks(test_data: Path) -> None:
    tracks = pd.read_csv(test_data / "labels" / "ibtracs_jtwc_1980_2024.csv.gz")
    # many have no status; the others are no storms, or no tropical ones
    others = ["DB", "ET", "EX", "LO", "MD", "PT", "SD", "TD", "WV", "XX"]
    strong = tracks[~tracks.status.isin(others) & (tracks.wind >= 34)]
    at_sea = ~is_land(strong.lon.values, strong.lat.values)
    strong = strong[at_sea]
    basins = basin_of(strong.lon.values, strong.lat.values)
    for name, basin in MEASURED.items():
        here = strong[basins == name]
        assert len(here) / len(strong) == pytest.approx(basin.share, abs=0.01)
        found = np.quantile(here.lat.abs(), QUANTILES)
        # who has become extratropical is not always said, far from the equator
        np.testing.assert_allclose(found[:4], basin.latitudes[:4], atol=1.0)
        np.testing.assert_allclose(found[4], basin.latitudes[4], atol=3.5)
    np.testing.assert_allclose(np.quantile(strong.wind / 1.944, WIND_QUANTILES), WINDS, rtol=0.03)
