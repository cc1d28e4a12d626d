"""Figures as files."""

from pathlib import Path
from typing import Any

from xsphere.atomic import built_beside
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
