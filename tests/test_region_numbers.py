"""Numbers of regions: those of a flood fill, in every step by itself."""

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

import xsphere
from tests.test_regions import GLOBAL_GRIDS, cells_within, flooded, labelled, mask_on
from tests.tiers import examples
from xsphere.conventions import mask_attributes
from xsphere.graph import adjacency
from xsphere.grids import EARTH_RADIUS_KM, HealpixGrid, LatLonGrid
from xsphere.regions.connected import connected_cells, shared_cells

LEVEL2 = HealpixGrid(2)
NEIGHBOURS = adjacency(LEVEL2)
CLASSES = ["storm", "river"]


def touching(cell):
    return set(NEIGHBOURS[[cell]].indices.tolist())


def sets_of(labels):
    return [set(np.flatnonzero(labels == n).tolist()) for n in range(1, int(labels.max()) + 1)]


steps = st.lists(
    st.sampled_from([0, 0, 0, 1, 1, 2, 254, 255]),
    min_size=LEVEL2.n_cells,
    max_size=LEVEL2.n_cells,
)


@given(step=steps)
@examples(25, deadline=None)
def test_regions_are_those_of_a_flood_fill(step):
    values = np.array(step, np.uint8)
    found = xsphere.label(labelled(values, LEVEL2, attrs=mask_attributes(CLASSES), name="m"))
    regions = [region for _, region in flooded(values, touching)]
    regions.sort(key=lambda region: (values[min(region)], min(region)))
    assert sets_of(found.values) == regions
    assert found.dtype == np.int32


@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(GLOBAL_GRIDS)))
@examples(40, deadline=None)
def test_connected_cells_are_those_of_scipy(seed, name):
    rng = np.random.default_rng(seed)
    matrix = adjacency(GLOBAL_GRIDS[name])
    chosen = rng.random(matrix.shape[0]) < rng.choice([0.0, 0.1, 0.4, 0.9, 1.0])
    cells = np.flatnonzero(chosen)
    classes = rng.integers(0, rng.integers(1, 4), cells.size).astype(np.uint8)
    found, number = connected_cells(matrix.indptr, matrix.indices, cells, classes)
    links = matrix[cells][:, cells].multiply(classes[:, None] == classes)
    links.eliminate_zeros()
    expected = connected_components(links, directed=False)
    assert number == expected[0]
    np.testing.assert_array_equal(found, expected[1])
    others = np.flatnonzero(rng.random(chosen.size) < 0.5)
    shared = np.intersect1d(cells, others, assume_unique=True, return_indices=True)
    np.testing.assert_array_equal(shared_cells(cells, others), shared[1:])


@given(step=steps, area=st.sampled_from([0.0, 3e6, 6e6]))
@examples(25, deadline=None)
def test_rows_of_events_are_the_numbers(step, area):
    mask = labelled(np.array(step, np.uint8), LEVEL2, attrs=mask_attributes(CLASSES), name="m")
    numbers = xsphere.label(mask, min_area=area).values
    table = xsphere.events(mask, min_area=area)
    sizes = np.bincount(numbers, minlength=1)[1:]
    assert sorted(sizes.tolist()) == sorted(table.n_cells.values.tolist())


def test_numbers_of_a_step_depend_on_that_step_alone():
    rng = np.random.default_rng(0)
    values = rng.choice([0, 0, 1, 2, 254], (5, LEVEL2.n_cells)).astype(np.uint8)
    mask = labelled(values, LEVEL2, attrs=mask_attributes(CLASSES), name="mask")
    whole = xsphere.label(mask)
    for chunks in (1, 2, 5):
        xr.testing.assert_identical(mask.chunk(time=chunks).sphere.label(), whole)
    xr.testing.assert_identical(xsphere.label(mask.isel(time=[3])), whole.isel(time=[3]))


def test_nothing_is_computed_before_it_is_asked_for():
    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    mask = mask_on(LEVEL2, {1: [0, 1]}).expand_dims(time=2)
    mask = mask.copy(data=dask.array.from_array(mask.values, chunks=(1, -1)))
    with dask.config.set(scheduler=refuse):
        lazy = xsphere.label(mask)
    assert lazy.chunks is not None
    assert lazy.max() == 1


@pytest.mark.parametrize("grid", GLOBAL_GRIDS.values(), ids=list(GLOBAL_GRIDS))
def test_small_holes_are_filled(grid):
    ring = np.setdiff1d(cells_within(grid, 179, 50, 20), cells_within(grid, 179, 50, 8))
    hole = cells_within(grid, 179, 50, 8)
    area = grid.covered_areas[hole].sum() * EARTH_RADIUS_KM**2
    mask = mask_on(grid, {1: ring})
    assert xsphere.label(mask, max_hole_area=0.99 * area).values.ravel()[hole].max() == 0
    filled = xsphere.label(mask, max_hole_area=1.01 * area).values.ravel()
    assert (filled[hole] == 1).all()
    assert (filled > 0).sum() == ring.size + hole.size
    # what is not known, or of another class, is no background
    for other in (254, 255, 2):
        kept = xsphere.label(mask_on(grid, {1: ring, other: hole[:1]}), max_hole_area=1e9)
        assert (kept.values.ravel()[hole[1:]] == 0).all()


def test_a_sphere_without_background_has_no_holes():
    mask = mask_on(LEVEL2, {1: range(LEVEL2.n_cells)})
    assert (xsphere.label(mask, max_hole_area=1e9) == 1).all()


@given(
    places=st.lists(st.integers(0, LEVEL2.n_cells - 1), min_size=2, max_size=12, unique=True),
    distance=st.floats(0, 21000),
)
@examples(30, deadline=None)
def test_near_regions_are_one(places, distance):
    mask = mask_on(LEVEL2, {1: places})
    found = xsphere.label(mask, merge_distance=distance).values
    # brute force: the same number where a chain of steps of at most the distance leads
    centres = LEVEL2.centres[places]
    apart = EARTH_RADIUS_KM * np.arccos(np.clip(centres @ centres.T, -1, 1))
    linked = (apart <= distance) | (NEIGHBOURS.toarray()[np.ix_(places, places)])
    if (np.abs(apart - distance) < 1e-3).any():
        return
    reached = np.linalg.matrix_power((linked | np.eye(len(places), dtype=bool)).astype(int), 1) > 0
    for _ in places:
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    same = found[places][:, None] == found[places]
    assert (same == reached).all()


def test_booleans_have_one_class_and_shares_none():
    mask = mask_on(LEVEL2, {1: [0], 2: [50]})
    assert xsphere.label(mask == 2).values[50] == 1
    assert xsphere.label(mask == 2).values[0] == 0
    with pytest.raises(ValueError, match="regions are of booleans"):
        xsphere.label((mask == 2).astype(float).assign_attrs(mask.attrs))


@pytest.mark.parametrize("wish", ["label", "track", "events", "frequency"])
def test_shares_want_a_threshold(wish):
    mask = mask_on(LEVEL2, {1: [0]}).expand_dims(time=[np.datetime64("2001-01-01", "ns")], axis=0)
    share = 0.4 * (mask == 1)
    share.attrs = {key: text for key, text in mask.attrs.items() if not key.startswith("flag_")}
    words = rf"{wish}\(\) needs classes or booleans.*float64.* such as {wish}\("
    with pytest.raises(ValueError, match=words + r"share > 0.5\)"):
        getattr(xsphere, wish)(share.chunk(time=1))
    both = xr.concat([1 - share, share], "class").assign_coords({"class": ["background", "storm"]})
    with pytest.raises(ValueError, match=words + r"share\.sel\({'class': 'NAME'}\) > 0.5\)"):
        getattr(xsphere, wish)(both)
    # arithmetic keeps the flags
    share.attrs = mask.attrs
    with pytest.raises(ValueError, match=r"threshold first, such as share > 0.5|compare, such as"):
        getattr(xsphere, wish)(share)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_area": -1.0}, "min_area must be a number of km2"),
        ({"max_hole_area": "1"}, "max_hole_area must be a number of km2"),
        ({"merge_distance": np.nan, "min_area": -1}, "min_area must .*; merge_distance must be"),
        ({"classes": ["storms"]}, "classes must be names or values"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        xsphere.label(mask_on(LEVEL2, {1: [0]}), **options)


def test_a_split_grid_is_refused():
    mask = mask_on(LatLonGrid(np.arange(0, 360, 30.0), np.arange(-75, 90, 30.0)), {1: [0]})
    with pytest.raises(ValueError, match="horizontal dimensions must be in one chunk"):
        xsphere.label(mask.chunk(lat=2))
