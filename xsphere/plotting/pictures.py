"""Figures, maps and films as files."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.atomic import built_beside
from xsphere.conventions.horizontal import selected
from xsphere.conventions.masks import holds_classes
from xsphere.notices import shortened
from xsphere.paths import local_path


def picture_path(out: str | Path) -> Path:
    """The place of a picture, refused if matplotlib does not write such files.

    Parameters
    ----------
    out : str or Path
        Ends in a format that matplotlib writes, such as ``.png``.

    Returns
    -------
    Path
        On this machine.

    Raises
    ------
    ValueError
        If the ending is unknown, or as `xsphere.paths.local_path`.

    Examples
    --------
    >>> picture_path("errors.pdf").name
    'errors.pdf'
    """
    from matplotlib.figure import Figure

    path = local_path(out, "the picture")
    known = set(Figure().canvas.get_supported_filetypes())
    if path.suffix[1:] not in known:
        raise ValueError(f"the picture must end in one of {sorted(known)}, got {str(path)!r}")
    return path


def write_figure(figure: Any, path: Path, **options: Any) -> None:
    """Write a figure so that no reader ever sees a part of it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to draw.
    path : Path
        See `picture_path`; replaced if it exists.
    **options
        Of matplotlib's `savefig`.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> path = Path(tempfile.mkdtemp(), "empty.png")
    >>> write_figure(Figure(), path)
    >>> path.exists()
    True
    """
    with built_beside(path, replace=True) as beside:
        figure.savefig(beside, format=path.suffix[1:], dpi=150, **options)


def write_picture(
    ds: xr.Dataset, out: str | Path, *, variable: str | None = None, time: str | None = None
) -> Path:
    """Map of one time of a variable, as a file.

    Parameters
    ----------
    ds : Dataset
        Any dataset on a horizontal grid.
    out : str or Path
        Ends in a format that matplotlib writes, such as ``.png``.
    variable : str, optional
        The mask, or else the first variable, if not given.
    time : str, optional
        The nearest time is taken; the first if not given.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    ValueError
        If there is no such variable, or the ending is unknown.

    Examples
    --------
    >>> import tempfile
    >>> import xsphere
    >>> write_picture(xsphere.sample_dataset(), tempfile.mkdtemp() + "/map.png").name
    'map.png'
    """
    from xsphere.plotting.maps import plot

    path = picture_path(out)
    array = _variable(ds, variable)
    if "time" in array.dims:
        array = array.isel(time=0) if time is None else array.sel(time=time, method="nearest")
    axes = plot(array)
    write_figure(np.atleast_1d(axes)[0].figure, path, bbox_inches="tight")
    return path


def write_film(
    ds: xr.Dataset,
    out: str | Path,
    *,
    variable: str | None = None,
    times: str | None = None,
    **options: Any,
) -> Path:
    """Write a variable as a film of its times.

    Parameters
    ----------
    ds, variable
        As for `write_picture`.
    out : str or Path
        As for `xsphere.animate`.
    times : str, optional
        The first and the last time, such as ``"2011-01/2011-03-15"``; all times if not given.
    **options
        Of `xsphere.animate`.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    ValueError
        If there is no such variable, `times` are none of its times, or as for `xsphere.animate`.

    Examples
    --------
    >>> import tempfile
    >>> import xsphere
    >>> write_film(xsphere.sample_dataset()[["PSL"]], tempfile.mkdtemp() + "/film.gif").name
    'film.gif'
    """
    from xsphere.plotting.animation import animate

    array = _variable(ds, variable)
    if times is not None and "time" in array.dims:
        array = _between(array, times)
    return animate(array, out, **options)


def _between(array: xr.DataArray, times: str) -> xr.DataArray:
    """The part of an array from a first to a last time."""
    first, _, last = times.partition("/")
    try:
        found = array.sel(time=slice(first, last)) if first and last else None
    except (TypeError, ValueError):
        found = None
    if found is None:
        raise ValueError(
            "times must be two times with a / between, such as 2011-01-01/2011-01-15T12, got "
            f"{shortened(times)}"
        )
    if not found.sizes["time"]:
        known = [str(array["time"].values[end]) for end in (0, -1)]
        raise ValueError(
            f"there is no time of {shortened(array.name)} in {shortened(times)}; its times are "
            f"{' to '.join(known)}"
        )
    return found


def _variable(ds: xr.Dataset, variable: str | None) -> xr.DataArray:
    if variable is not None:
        return selected(ds, variable)
    masks = [name for name, array in ds.data_vars.items() if holds_classes(array)]
    names = masks or list(ds.data_vars)
    if not names:
        raise ValueError("the dataset has no variables to draw")
    return selected(ds, names[0])
