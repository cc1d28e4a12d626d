"""ClimateNet Large: cyclones, rivers and blocking in ERA5, each map drawn by two annotators."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.datasets.published import (
    Checksums,
    Problems,
    check_same_grid,
    check_sums,
    described_axes,
    files_in,
    folder_of,
    opened,
)
from xsphere.notices import shortened

DIMS = ("time", "class", "annotator", "latitude", "longitude")
Classes = tuple[str, ...]


def climatenet_large(
    path: str | Path,
    classes: str | Sequence[str] | None = None,
    *,
    checksums: Checksums | None = None,
) -> xr.DataArray:
    """Labels of ClimateNet Large, from a folder of its NetCDF files.

    Parameters
    ----------
    path : str or Path
        Folder that holds files of one variable ``label``, itself or in folders (``AR``, ``TC``,
        ``blocking``), with any of the dimensions ``time``, ``class`` and ``annotator`` beside
        ``latitude`` and ``longitude``; time and class may be coordinates of one value.
    classes : str or sequence of str, optional
        Of ``atmospheric_river``, ``tropical_cyclone``, ``blocking_event``; all by default, which
        must be labelled at the same times: blocking is at others.
    checksums : mapping or path, optional
        As for `climatenet`.

    Returns
    -------
    DataArray
        Bool (time, class, annotator, latitude, longitude), lazy: `xsphere.fit` and
        `xsphere.evaluate` take the mean of the annotators as soft labels; `annotator_mean` gives
        mean and spread. The fields are those of ERA5 at the same times, which the files do not
        hold.

    Raises
    ------
    FileNotFoundError
        If the folder is not there, or holds no such file.
    ValueError
        If files are missing, damaged, extra or of another grid, or times of a class are missing
        that another has: all are named. If a class is not there.

    References
    ----------
    .. [1] https://github.com/andregraubner/ClimateNetLarge

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> axes = {
    ...     "time": pd.DatetimeIndex(["1990-10-01T02"]), "class": ["Blocking Event (BE)"],
    ...     "annotator": [0, 1], "latitude": [-45.0, 45.0], "longitude": [0.0, 120.0, 240.0],
    ... }
    >>> label = xr.DataArray(np.ones((1, 1, 2, 2, 3), bool), axes, name="label")
    >>> with TemporaryDirectory() as folder:
    ...     _ = label.to_netcdf(f"{folder}/a.nc", engine="netcdf4")
    ...     climatenet_large(folder)["class"].values.tolist()
    ['blocking_event']
    """
    folder = folder_of(path)
    problems = Problems(folder)
    files = files_in([folder], ".nc", deep=True)
    if not files:
        raise FileNotFoundError(f"no file ends in .nc in {shortened(str(folder))}")
    check_sums(files, files, checksums, problems)
    found = {}
    for file in problems.without(files):
        ds = opened(file, problems, decode_times=True)
        if ds is not None and _is_sound(ds, file, problems):
            found[file] = ds
    check_same_grid(found, ["latitude", "longitude"], problems)
    problems.check()
    return _together(
        {file: _arranged(ds["label"]) for file, ds in found.items()}, classes, problems
    )


def _is_sound(ds: xr.Dataset, path: Path, problems: Problems) -> bool:
    """Whether a file has labels with the dimensions that they must have."""
    if "label" not in ds:
        problems.add(path, "extra: it has no variable 'label'")
        return False
    label = ds["label"]
    absent = [name for name in ("time", "class") if name not in label.coords]
    if absent:
        problems.add(path, f"damaged: it has no coordinate {shortened(absent)}")
    elif set(label.dims) - set(DIMS) or not {"latitude", "longitude"} <= set(label.dims):
        problems.add(path, f"damaged: dimensions must be some of {DIMS}, got {label.dims}")
    elif label["time"].dtype.kind != "M" or label["time"].isnull().any():
        problems.add(path, "damaged: its times are no dates")
    else:
        return True
    return False


def _arranged(label: xr.DataArray) -> xr.DataArray:
    """All five dimensions, in order; classes by names of one word."""
    for dim in ("annotator", "class", "time"):
        if dim not in label.dims:
            label = label.expand_dims(dim)
    label = label.assign_coords(
        {"class": [_word(name) for name in np.atleast_1d(label["class"].values)]}
    )
    label = label.assign_coords(annotator=np.arange(label.sizes["annotator"]))
    extra = [name for name in label.coords if name not in DIMS]
    return label.transpose(*DIMS).drop_vars(extra).astype(bool)


def _word(name: object) -> str:
    """``Tropical Cyclone (TC)`` as ``tropical_cyclone``."""
    return "_".join(re.sub(r"\(.*?\)", "", str(name)).lower().split())


def _together(
    labels: Mapping[Path, xr.DataArray], classes: str | Sequence[str] | None, problems: Problems
) -> xr.DataArray:
    groups: dict[Classes, dict[Path, xr.DataArray]] = defaultdict(dict)
    for path, label in labels.items():
        groups[tuple(label["class"].values.tolist())][path] = label
    known = sorted({name for group in groups for name in group})
    wanted = [classes] if isinstance(classes, str) else known if classes is None else [*classes]
    if not wanted or set(wanted) - set(known) or len(set(wanted)) < len(wanted):
        raise ValueError(f"classes must be some of {shortened(known)}, got {shortened(wanted)}")
    chosen = {group: files for group, files in groups.items() if set(group) & set(wanted)}
    _check_alike(chosen, problems)
    joined = [
        xr.concat([*files.values()], "time", join="override").sortby("time")
        for files in chosen.values()
    ]
    label = xr.concat(joined, "class", join="override").sel({"class": wanted})
    label.attrs = {"long_name": "what annotators drew", "source": "ClimateNet Large"}
    named = described_axes(label.to_dataset(name="label"), "latitude", "longitude")
    return named["label"].transpose(*DIMS)


def _check_alike(chosen: Mapping[Classes, Mapping[Path, xr.DataArray]], problems: Problems) -> None:
    """Times differ within a class, are the same for all, and have as many annotators."""
    first = next(iter(next(iter(chosen.values())).values()))
    indexes: dict[Classes, pd.Index] = {}
    for group, files in chosen.items():
        seen: dict[pd.Timestamp, Path] = {}
        for path, label in files.items():
            if label.sizes["annotator"] != first.sizes["annotator"]:
                problems.add(
                    path,
                    f"it has {label.sizes['annotator']} annotators, others "
                    f"{first.sizes['annotator']}",
                )
            for time in label.get_index("time"):
                twin = seen.setdefault(time, path)
                if twin != path:
                    problems.add(path, f"extra: its time {time} is in {twin.name} too")
        indexes[group] = pd.Index(seen)
    every = pd.Index(sorted({time for index in indexes.values() for time in index}))
    for group, index in indexes.items():
        absent = every.difference(index)
        if len(absent):
            problems.add(
                f"missing: {' and '.join(group)}",
                f"no file has {len(absent)} times that other classes have, from {absent[0]}; "
                "choose classes=... that are labelled at the same times",
            )
    problems.check()
