"""The filter that users call."""

from collections.abc import Callable
from typing import Any, get_args

import xarray as xr

from xsphere.conventions import HorizontalGrid, horizontal_grid
from xsphere.conventions.base import Labelled, horizontal_variables
from xsphere.filtering.degree_kernels import KernelName, kernel_of, title_of
from xsphere.filtering.filter_tasks import FilterNode, MissingCells, factor_of_constants
from xsphere.filtering.filtered_variables import (
    check_fields,
    float_dtype,
    kept_attributes,
    on_the_grid,
)
from xsphere.graph import SphereGraph
from xsphere.graph.latlon_laplacian import has_latlon_laplacian
from xsphere.grids import EARTH_RADIUS_KM, Grid, HealpixGrid
from xsphere.notices import shortened

# Neighbours of the default graph: twice the cost of 8, a third of the error.
NEIGHBOURS = 20


def filter(
    obj: Labelled,
    kernel: KernelName | Callable[[Any], Any],
    *,
    scale: float | None = None,
    degree: float | tuple[float, float] | None = None,
    order: int = 4,
    graph: SphereGraph | None = None,
    k: int | None = None,
    missing: MissingCells = "propagate",
    min_valid_fraction: float = 0.5,
    radius: float = EARTH_RADIUS_KM,
) -> Labelled:
    """The same fields, every degree of spherical harmonics scaled by a factor, lazily.

    The factor is a function of l (l + 1), the eigenvalue of the Laplacian of the sphere. It is
    applied as a polynomial of the Laplacian of a graph, one sparse product a term, so it works on
    any grid and any part of the sphere, and its cost grows with the number of cells alone. The
    eigenvalues of the graph are taken for the l (l + 1) that they stand for, measured on the
    graph, so scales mean the same on every graph. Constants are scaled by the factor of degree 0.

    Parameters
    ----------
    obj : Dataset or DataArray
        On any grid that `xsphere.conventions.horizontal_grid` finds; the horizontal dimensions in
        one chunk. Left as it was. Variables of a Dataset without the horizontal dimensions pass
        through.
    kernel : {"heat", "tikhonov", "mexican_hat", "low_pass", "high_pass", "band_pass"} or callable
        See `xsphere.filtering.Kernel`: the first three take `scale`, the others `degree`. A
        callable takes an array of l (l + 1), per square radian, and gives as many factors; it must
        be smooth, or it costs many terms and rings. Functions of a module have the same name as
        a dask task in every process, a lambda may not.
    scale : float, optional
        Kilometres on the sphere of `radius`: the standard deviation of the Gaussian for
        ``"heat"``. For an angle in degrees give ``scale=angle, radius=180 / pi``.
    degree : float or pair of float, optional
        Where the factor is one half: waves of a length of 40,000 km by the degree.
    order : int
        Sharpness of the cut-off by degree. More rings more.
    graph : SphereGraph, optional
        A graph of the same grid. By default that of the 20 nearest neighbours or, on a
        longitude-latitude grid, where nearest neighbours near a pole all lie in one row, fluxes
        through the edges of cells (`xsphere.graph.latlon_laplacian`).
    k : int, optional
        Number of neighbours, for a graph of the default kind.
    missing : {"propagate", "renormalize"}
        ``"propagate"``: NaN within as many steps along the graph's edges as the polynomial has
        terms, which for a scale of many cells is everywhere. ``"renormalize"``: the mean of what is
        valid, weighted by the kernel, for kernels that keep constants; missing cells are filled.
    min_valid_fraction : float
        Part of the kernel's weight that must be valid, from 0 to 1, for ``"renormalize"``; a part
        below 0.001 is never enough.
    radius : float
        Of the sphere, in kilometres.

    Returns
    -------
    Dataset or DataArray
        Names, coordinates, dimensions and attributes kept, save ranges of values; an attribute
        ``filter`` tells the kernel. Floats keep their type (sums are made in float64); integers
        become float32, or float64 from 32 bits on. Beyond the edge of a region nothing is known:
        there the slope across the edge is taken for zero.

    Raises
    ------
    TypeError
        If a variable holds no numbers, or an option is of the wrong kind.
    ValueError
        If no grid is found, horizontal dimensions are split into chunks, variables hold classes or
        directions or are packed, options do not go together, or `graph` is of another grid.

        When computed: if the polynomial is unstable on a graph with eigenvalues off the real axis,
        as those of scattered points may have, found by filtering noise once.

    Warns
    -----
    ChebyshevWarning
        When computed, if 4096 terms do not meet a tolerance of 1e-6: where some cells are much
        closer than the scale, say. Use `to_healpix` first.

    Examples
    --------
    >>> import numpy as np
    >>> from xsphere.conventions import describe_healpix
    >>> grid = HealpixGrid(level=3)
    >>> field = describe_healpix(xr.DataArray(grid.centres[:, 2], dims="cells"), grid)
    >>> smooth = filter(field, "tikhonov", scale=6371.0)

    The sine of latitude is of degree 1, so its factor is 1 / (1 + 2):

    >>> bool(abs(smooth - field / 3).max() < 0.005)
    True
    """
    chosen = kernel_of(kernel, scale, degree, order, radius)
    found = horizontal_grid(obj)
    _check_missing(missing, min_valid_fraction, chosen)
    spec = _spec(found.grid, graph, k)

    def one(variable: xr.DataArray) -> xr.DataArray:
        node = FilterNode(
            grid=found.grid,
            spec=spec,
            kernel=chosen,
            dtype=float_dtype(variable.dtype),
            missing=missing,
            min_valid_fraction=min_valid_fraction,
        )
        (result,) = on_the_grid(node, [variable], found, 1, node.dtype)
        result.attrs = kept_attributes(variable) | {"filter": title_of(chosen)}
        return result

    return _mapped(obj, found, one)


def _mapped(
    obj: Labelled, found: HorizontalGrid, one: Callable[[xr.DataArray], xr.DataArray]
) -> Labelled:
    """A function applied to an array, or to those variables of a Dataset that are fields."""
    if isinstance(obj, xr.DataArray):
        check_fields({obj.name: obj}, found, "filter")
        return one(obj)
    variables = horizontal_variables(obj, found)
    check_fields(variables, found, "filter")
    return obj.assign({name: one(variable) for name, variable in variables.items()})


def _spec(
    grid: Grid, graph: SphereGraph | None, k: int | None
) -> tuple[tuple[str, Any], ...] | None:
    """Options of the graph told, if it is of the grid, or of the default; None for no graph."""
    if graph is None:
        if k is None and has_latlon_laplacian(grid):
            return None
        whole = HealpixGrid(grid.level) if isinstance(grid, HealpixGrid) else grid
        graph = SphereGraph(grid, k=min(NEIGHBOURS, whole.n_cells - 1) if k is None else k)
    elif not isinstance(graph, SphereGraph):
        raise TypeError(f"graph must be a SphereGraph, got {graph!r}")
    elif k is not None:
        raise ValueError(f"give k= or graph=, not both, got k={shortened(k)} and {graph!r}")
    elif graph.grid != grid:
        raise ValueError(
            f"graph must be of the grid of the data {grid!r}, got one of {graph.grid!r}; make it "
            "with SphereGraph(xsphere.horizontal_grid(data).grid)"
        )
    elif graph.laplacian_type != "combinatorial":
        raise ValueError(
            "graph must have laplacian_type='combinatorial', whose eigenvalues stand for degrees, "
            f"got {graph.laplacian_type!r}"
        )
    return tuple(graph.spec().items())


def _check_missing(missing: str, min_valid_fraction: float, kernel: Callable[[Any], Any]) -> None:
    if missing not in get_args(MissingCells):
        raise ValueError(f"missing must be one of {list(get_args(MissingCells))}, got {missing!r}")
    if not 0.0 <= min_valid_fraction <= 1.0:
        raise ValueError(
            f"min_valid_fraction must be from 0 to 1, got {shortened(min_valid_fraction)}"
        )
    full = factor_of_constants(kernel)
    if missing == "renormalize" and not full > 0:
        raise ValueError(
            f"missing='renormalize' needs a kernel that keeps constants, but {title_of(kernel)} "
            f"makes them {full:g}; subtract what a low_pass with missing='renormalize' gives from "
            "the field, or from what another low_pass gives"
        )
