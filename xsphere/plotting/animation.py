"""Maps of many times, one after the other, as a film."""

import itertools
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.atomic import built_beside
from xsphere.conventions import horizontal_grid
from xsphere.conventions.masks import FLAG_ATTRIBUTES
from xsphere.notices import shortened
from xsphere.paths import local_path
from xsphere.plotting.maps import (
    check_contours,
    matched_contours,
    new_axes,
    plot,
    shows_classes,
)

# plays without end
LOOP = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"


def animate(
    da: xr.DataArray,
    out: str | Path,
    *,
    fps: float = 4.0,
    contours: xr.DataArray | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Write a film of a field or mask, frame by frame: one time is in memory at a time.

    Parameters
    ----------
    da : DataArray
        As for `xsphere.plot`, with the dimension ``time``.
    out : str or Path
        Ends in ``.gif``, in ``.mp4`` (where there is ffmpeg), or in nothing: a folder of pictures.
    fps : float
        Frames a second. In a ``.gif`` frames last whole hundredths of a second, at least two.
    contours : DataArray, optional
        A mask with these times among its own, or without times, whose classes are outlined.
    overwrite : bool
        Whether to replace what is there.
    **options
        Of `xsphere.plot`, such as `tracks`. The limits of the colours are those of the first frame
        that shows a number, if not given.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    ValueError
        If there are no times, other dimensions are left, `contours` lacks times, an option makes
        no sense, the ending is unknown, or there is no ffmpeg for an ``.mp4``.
    FileExistsError
        If something is there and `overwrite` is not set.

    Examples
    --------
    >>> import tempfile, xsphere
    >>> pressure = xsphere.sample_dataset().PSL
    >>> animate(pressure, tempfile.mkdtemp() + "/pressure.gif", pixels=200).name
    'pressure.gif'
    """
    path = local_path(out, "the film")
    dims = horizontal_grid(da).dims
    if "time" not in da.dims or not da.sizes["time"] or set(da.dims) - {"time", *dims}:
        raise ValueError(
            f"animate() needs the dimension 'time' and those of the grid alone, got {da.dims}"
        )
    writers = {".gif": _write_gif, ".mp4": _write_mp4, "": _write_folder}
    if path.suffix not in writers:
        raise ValueError(f"the film must end in .gif, .mp4 or nothing, got {str(path)!r}")
    _check_options(path, fps, options)
    if contours is not None:
        check_contours(contours)
        contours = matched_contours(contours, da, "time")
    frames = _frames(_of_one_kind(da), contours, options)
    with built_beside(path, folder=not path.suffix, replace=overwrite) as beside:
        writers[path.suffix](frames, beside, float(fps))
    return path


def _check_options(path: Path, fps: float, options: dict[str, Any]) -> None:
    if not 0 < fps < np.inf:
        raise ValueError(f"fps must be a number above 0, got {shortened(fps)}")
    if path.suffix == ".gif" and not 0.01 <= fps <= 50:
        raise ValueError(f"fps of a .gif must lie between 0.01 and 50, got {fps}")
    of_one_map = sorted({"ax", "col", "col_wrap"} & set(options))
    if of_one_map:
        raise ValueError(f"animate() makes a map of each time; leave {', '.join(of_one_map)} out")
    if path.suffix == ".mp4":
        _check_ffmpeg()


def _of_one_kind(da: xr.DataArray) -> xr.DataArray:
    """Shares that have the flags of a mask without them: else times of 0 and 1 alone are masks."""
    if da.dtype.kind != "f" or "flag_meanings" not in da.attrs:
        return da
    steps = (da.isel(time=step) for step in range(da.sizes["time"]))
    if all(shows_classes(step, [np.ma.asarray(step.values)], {}) for step in steps):
        return da
    others = {key: value for key, value in da.attrs.items() if key not in FLAG_ATTRIBUTES}
    return da.drop_attrs(deep=False).assign_attrs(others)


def _frames(
    da: xr.DataArray, contours: xr.DataArray | None, options: dict[str, Any]
) -> Iterator[Any]:
    """A picture of each time, all of one size and with the same colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure
    from PIL import Image

    options = dict(options)
    projection = options.pop("projection", None)
    grid = horizontal_grid(da).grid
    for step in range(da.sizes["time"]):
        # no figure of pyplot: nothing is left open or made the current one
        (ax,) = new_axes(1, grid, projection, new_figure=partial(Figure, dpi=100))
        around = contours
        if contours is not None and "time" in contours.dims:
            around = contours.isel(time=step)
        plot(da.isel(time=step), ax=ax, contours=around, **options)
        image = ax.images[0]
        is_mask = isinstance(image.norm, BoundaryNorm)
        if image.get_array().count() and not is_mask and "norm" not in options:
            options["vmin"], options["vmax"] = image.get_clim()
        canvas: Any = FigureCanvasAgg(ax.get_figure())
        canvas.draw()
        yield Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB")


def _write_gif(frames: Iterator[Any], path: Path, fps: float) -> None:
    """Each frame as it is drawn: Pillow's own way keeps all, and drops those without change."""
    from PIL.GifImagePlugin import getdata

    with path.open("wb") as file:
        for number, frame in enumerate(frames):
            if not number:
                file.write(b"GIF89a" + struct.pack("<HHBBB", *frame.size, 0, 0, 0) + LOOP)
            indexed = frame.quantize()
            file.writelines(getdata(indexed, duration=1000 / fps, include_color_table=True))
        file.write(b";")


def _write_folder(frames: Iterator[Any], path: Path, fps: float) -> None:  # noqa: ARG001
    path.mkdir(exist_ok=True)
    for number, frame in enumerate(frames):
        frame.save(path / f"{number:05d}.png")


def _check_ffmpeg() -> None:
    import shutil

    if shutil.which("ffmpeg") is None:
        raise ValueError("there is no ffmpeg for .mp4; install it, or write .gif or a folder")


def _write_mp4(frames: Iterator[Any], path: Path, fps: float) -> None:
    import subprocess

    first = next(frames)
    # even sides, which the codec needs
    width, height = (side - side % 2 for side in first.size)
    command = [
        *("ffmpeg", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", str(fps), "-i", "-", "-f", "mp4"),
        *("-pix_fmt", "yuv420p", "-y", str(path)),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        # if it gives up early, its status says so
        with suppress(BrokenPipeError), process.stdin:
            for frame in itertools.chain([first], frames):
                process.stdin.write(frame.crop((0, 0, width, height)).tobytes())
        if process.wait():
            raise OSError(f"ffmpeg failed with status {process.returncode}: its words are above")
