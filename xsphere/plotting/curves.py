"""Errors of operators by degree, as curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xsphere.equivariance import EquivarianceError
from xsphere.plotting.pictures import picture_path, write_figure

# Distinct without colour vision too: Okabe and Ito's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
LINES = ("-", "--", "-.")


def plot_equivariance(
    errors: Mapping[str, EquivarianceError],
    ax: Any = None,
    *,
    title: str | None = None,
    styles: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """Curves of unsquared equivariance errors over the degree, on a logarithmic scale.

    Bands are the confidence intervals, where there are any. Dotted lines of the same colour are
    the floors, where they are not zero: what the measure itself adds.

    Parameters
    ----------
    errors : mapping of EquivarianceError
        By name. The last lies on top.
    ax : matplotlib Axes, optional
        A new figure's if not given.
    title : str, optional
        Of the axes.
    styles : mapping of mapping, optional
        Properties of matplotlib lines, by name, instead of those that go round.

    Returns
    -------
    matplotlib Axes
        With a legend.

    Raises
    ------
    ValueError
        If there is nothing to draw.

    Examples
    --------
    >>> from scipy import sparse
    >>> from xsphere.equivariance import equivariance_error
    >>> from xsphere.grids import HealpixGrid
    >>> shift = sparse.csr_array(np.roll(np.eye(192), 1, axis=0))
    >>> found = equivariance_error(shift, HealpixGrid(2), [1, 5])
    >>> plot_equivariance({"shift": found}).get_yscale()
    'log'
    """
    if not errors:
        raise ValueError("errors must hold at least one EquivarianceError to draw, got none")
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(7, 5), layout="constrained").add_subplot()
    ax.set_yscale("log")
    for number, (name, found) in enumerate(errors.items()):
        order = np.argsort(found.degrees)
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": LINES[number // len(COLOURS) % len(LINES)],
            "marker": "." if found.degrees.size < 30 else None,
            **(styles or {}).get(name, {}),
        }
        ax.plot(found.degrees[order], _drawn(found.error[order]), label=name, **style)
        if found.sampled and np.isfinite(found.low).all():
            band = (_drawn(found.low[order]), _drawn(found.high[order]))
            ax.fill_between(found.degrees[order], *band, color=style["color"], alpha=0.2, lw=0)
        ax.plot(found.degrees[order], _drawn(found.floor[order]), ":", color=style["color"], lw=1)
    (first, *_) = errors.values()
    if any(found.floor.any() for found in errors.values()):
        ax.plot([], [], ":", color="0.3", lw=1, label="floor of the measure")
    ax.set(xlabel="degree l", ylabel=f"relative error, unsquared ({first.method})", title=title)
    ax.grid(visible=True, which="major", alpha=0.3)
    ax.legend(fontsize="small")
    return ax


def write_curves(errors: Mapping[str, EquivarianceError], out: str | Path) -> Path:
    """Picture of `plot_equivariance`, as a file.

    Parameters
    ----------
    errors : mapping of EquivarianceError
        By name.
    out : str or Path
        Ends in a format that matplotlib writes, such as ``.png``.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    ValueError
        If the ending is unknown.

    Examples
    --------
    >>> import tempfile
    >>> from xsphere.equivariance.graph_errors import graph_errors
    >>> from xsphere.grids import HealpixGrid
    >>> write_curves(graph_errors(HealpixGrid(2), [3, 5]), tempfile.mkdtemp() + "/e.png").name
    'e.png'
    """
    path = picture_path(out)
    write_figure(plot_equivariance(errors).figure, path)
    return path


def _drawn(values: Any) -> Any:
    """Zeros have no place on a logarithmic scale: nothing is drawn there."""
    return np.where(values > 0, values, np.nan)
