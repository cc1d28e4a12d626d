"""Maps of many times, one after the other, as a film."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.atomic import built_beside
from xsphere.conventions import horizontal_grid
from xsphere.notices import shortened
from xsphere.paths import local_path
from xsphere.plotting.maps import plot


def animate(
    da: xr.DataArray,
    out: str | Path,
    *,
    fps: float = 4.0,
    contours: xr.DataArray | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Write a film of a field or mask, one frame a time, of which one is in memory at a time.

    Parameters
    ----------
    da : DataArray
        As for `xsphere.plot`, with the dimension ``time``.
    out : str or Path
        Ends in ``.gif``, in ``.mp4`` (where there is ffmpeg), or in nothing: a folder of pictures.
    fps : float
        Frames a second.
    contours : DataArray, optional
        A mask with the same times, or without, whose classes are outlined.
    overwrite : bool
        Whether to replace what is there.
    **options
        Of `xsphere.plot`, such as `tracks`. The limits of the colours are those of the first frame
        if not given.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    ValueError
        If there are no times, other dimensions are left, the ending is unknown, or there is no
        ffmpeg for an ``.mp4``.
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
    if not 0 < fps < np.inf:
        raise ValueError(f"fps must be a number above 0, got {shortened(fps)}")
    writers = {".gif": _write_gif, ".mp4": _write_mp4, "": _write_folder}
    if path.suffix not in writers:
        raise ValueError(f"the film must end in .gif, .mp4 or nothing, got {str(path)!r}")
    if path.suffix == ".mp4":
        _check_ffmpeg()
    frames = _frames(da, contours, options)
    with built_beside(path, folder=not path.suffix, replace=overwrite) as beside:
        writers[path.suffix](frames, beside, float(fps))
    return path


def _frames(
    da: xr.DataArray, contours: xr.DataArray | None, options: dict[str, Any]
) -> Iterator[Any]:
    """A picture of each time, all of one size and with the same colours."""
    import matplotlib.pyplot as plt
    from PIL import Image

    for step in range(da.sizes["time"]):
        now = da.isel(time=step)
        around = contours
        if contours is not None and "time" in contours.dims:
            around = contours.sel(time=now["time"])
        ax = plot(now, contours=around, **options)
        figure = ax.get_figure()
        if "flag_meanings" not in da.attrs and not {"vmin", "vmax", "norm"} & set(options):
            low, high = ax.images[0].get_clim()
            options = options | {"vmin": low, "vmax": high}
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        plt.close(figure)
        yield Image.open(buffer).convert("RGB")


def _write_gif(frames: Iterator[Any], path: Path, fps: float) -> None:
    first = next(frames)
    # frames are drawn while the file is written
    first.save(path, format="GIF", save_all=True, append_images=frames, duration=1000 / fps, loop=0)


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
        for frame in itertools.chain([first], frames):
            process.stdin.write(frame.crop((0, 0, width, height)).tobytes())
        process.stdin.close()
        if process.wait():
            raise OSError(f"ffmpeg could not write {path} (status {process.returncode})")
