"""ClimateNet: maps of CAM5.1 with cyclones and rivers that experts drew."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
import xarray as xr

from xsphere.conventions.masks import NOT_COMPUTED
from xsphere.datasets.channels import CHANNELS, CLASSES, label_attributes, other_units
from xsphere.datasets.published import (
    Checksums,
    LabelledFields,
    Problems,
    check_same_grid,
    check_sums,
    described_axes,
    files_in,
    folder_of,
    named,
    opened,
    time_of,
)
from xsphere.notices import shortened

Part = Literal["all", "train", "test"]
PARTS = ("train", "test")
NAME = re.compile(
    r"data-(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)-(?P<step>\d\d)-(?P<run>\d+)"
    r"(?:_(?P<annotator>\d+))?\.nc"
)
EXAMPLE = "data-2000-01-06-01-1_0.nc"


def climatenet(
    path: str | Path, part: Part = "all", *, checksums: Checksums | None = None
) -> LabelledFields:
    """Fields and labels of ClimateNet, from a folder of its NetCDF files.

    Parameters
    ----------
    path : str or Path
        Folder that holds ``train`` and ``test``, or the files themselves, named as
        ``data-2000-01-06-01-1_0.nc``: date, step of three hours, run, and annotator, if there are
        several. Other files may lie there, unless they end in ``.nc``.
    part : {"all", "train", "test"}
        Which of the two folders; all files if there are none.
    checksums : mapping or path, optional
        Digests (md5, sha1 or sha256) by name of file, or a file as ``md5sum`` writes it. Then every
        file is read once and compared, and no listed file may be missing.

    Returns
    -------
    LabelledFields
        Fields: 16 channels (time, lat, lon), lazy, one block a map. Labels: uint8, 0 background,
        1 ``tropical_cyclone``, 2 ``atmospheric_river``, 255 unknown, as (time, lat, lon); where
        several annotators labelled a map, (time, annotator, lat, lon), and 255 where there are
        fewer. Numbers of annotators are positions: the same number may be other persons on other
        maps.

    Raises
    ------
    FileNotFoundError
        If the folder, or the part, is not there.
    ValueError
        If files are missing, damaged, extra, of another grid or in other units: all are named.

    Notes
    -----
    Files of one time hold the same fields; the first is taken. Times are those of the names.

    References
    ----------
    .. [1] Prabhat et al. (2021), https://doi.org/10.5194/gmd-14-107-2021

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> axes = {"lat": [-45.0, 45.0], "lon": [0.0, 90.0, 180.0, 270.0]}
    >>> a_map = xr.DataArray([[[0] * 4] * 2], axes, ("time", "lat", "lon"))
    >>> with TemporaryDirectory() as folder:
    ...     written = xr.Dataset({name: a_map for name in [*CHANNELS, "LABELS"]})
    ...     _ = written.to_netcdf(f"{folder}/data-2000-01-06-01-1.nc", engine="netcdf4")
    ...     fields, labels = climatenet(folder)
    ...     len(fields), fields.time.dt.hour.item(), labels.attrs["flag_meanings"].split()[1]
    (16, 3, 'tropical_cyclone')
    """
    if part not in get_args(Part):
        raise ValueError(f"part must be one of {get_args(Part)}, got {shortened(part)}")
    folder = folder_of(path)
    problems = Problems(folder)
    everywhere = files_in(_folders(folder, "all"), ".nc")
    files = [file for file in everywhere if file.parent in _folders(folder, part)]
    if not files:
        raise FileNotFoundError(
            f"no file ends in .nc in {shortened([str(f) for f in _folders(folder, part)])}; give "
            f"the folder that holds train and test, or files as {EXAMPLE}"
        )
    matches = named(files, NAME, EXAMPLE, problems)
    _check_parts(matches, problems)
    check_sums(files, everywhere, checksums, problems)
    datasets = {}
    for file in problems.without(matches):
        ds = opened(file, problems, decode_times=False)
        if ds is not None:
            datasets[file] = _checked(ds, file, problems)
    check_same_grid(datasets, ["lat", "lon"], problems)
    problems.check()
    return _together(datasets, matches)


def _folders(folder: Path, part: Part) -> list[Path]:
    parts = [folder / name for name in PARTS if (folder / name).is_dir()]
    if part == "all":
        return parts or [folder]
    if folder / part not in parts:
        raise FileNotFoundError(
            f"there is no folder {shortened(part)} in {shortened(str(folder))}; choose part='all' "
            "for files that lie in it"
        )
    return [folder / part]


def _check_parts(matches: Mapping[Path, re.Match[str]], problems: Problems) -> None:
    """A time has one run, one file for each annotator, and is in one part."""
    seen: dict[pd.Timestamp, Path] = {}
    files: dict[tuple[pd.Timestamp, str], Path] = {}
    for path, match in matches.items():
        first = seen.setdefault(time_of(match), path)
        if path.parent != first.parent:
            problems.add(path, f"its time is in {first.parent.name} too")
        elif match["run"] != matches[first]["run"]:
            problems.add(path, f"its time is that of another run, {first.name}")
        twin = files.setdefault((time_of(match), f"{int(match['annotator'] or 0)}"), path)
        if twin != path:
            problems.add(path, f"its annotator is that of {twin.name}")


def _checked(ds: xr.Dataset, path: Path, problems: Problems) -> xr.Dataset:
    """Channels and labels of one file, without time."""
    labels = _label_names(ds)
    absent = [name for name in CHANNELS if name not in ds] + ["LABELS"] * (not labels)
    if absent:
        problems.add(path, f"damaged: it lacks {shortened(absent)}")
        return ds
    wrong = other_units(ds)
    if wrong:
        problems.add(path, f"its units are not as published: {shortened(wrong)}")
    ds = ds[[*CHANNELS, *labels]].squeeze("time", drop=True) if _one_time(ds) else ds
    unlike = [name for name in CHANNELS if set(ds[name].dims) != {"lat", "lon"}]
    unlike += [name for name in labels if {"lat", "lon"} - set(ds[name].dims)]
    if unlike:
        problems.add(path, f"damaged: {shortened(unlike)} must be one map of lat and lon")
    return ds


def _one_time(ds: xr.Dataset) -> bool:
    return ds.sizes.get("time") == 1


def _label_names(ds: xr.Dataset) -> list[str]:
    """LABELS, or LABELS_0, LABELS_1, ... of several annotators in one file."""
    names = sorted(map(str, ds.data_vars))
    return [name for name in names if re.fullmatch(r"LABELS(_?\d+)?", name)]


def _together(
    datasets: Mapping[Path, xr.Dataset], matches: Mapping[Path, re.Match[str]]
) -> LabelledFields:
    """Files of one time as one map, maps in the order of time."""
    groups: dict[pd.Timestamp, list[Path]] = defaultdict(list)
    for path in sorted(datasets, key=lambda path: int(matches[path]["annotator"] or 0)):
        groups[time_of(matches[path])].append(path)
    times = pd.DatetimeIndex(sorted(groups), name="time").as_unit("ns")
    ordered = [groups[time] for time in sorted(groups)]
    fields = xr.concat(
        [datasets[paths[0]][[*CHANNELS]].drop_vars("time", errors="ignore") for paths in ordered],
        dim=times,
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    ).transpose("time", "lat", "lon")
    fields = described_axes(fields, "lat", "lon")
    fields = fields.assign({n: fields[n].assign_attrs(attrs) for n, attrs in CHANNELS.items()})
    fields.attrs = {"Conventions": "CF-1.11", "source": "ClimateNet, CAM5.1"}
    maps = [[m for path in paths for m in _maps(datasets[path])] for paths in ordered]
    most = max(map(len, maps))
    blank = xr.full_like(maps[0][0], NOT_COMPUTED)
    full = [
        xr.concat([*known, *[blank] * (most - len(known))], "annotator", join="override")
        for known in maps
    ]
    labels = xr.concat(full, dim=times, join="override").assign_coords(
        fields[["lat", "lon"]].coords
    )
    if most == 1:
        labels = labels.isel(annotator=0)
    labels = labels.transpose("time", ..., "lat", "lon").rename("labels")
    labels = labels.assign_coords(time=fields.time)
    return LabelledFields(fields, labels.assign_attrs(label_attributes()))


def _maps(ds: xr.Dataset) -> list[xr.DataArray]:
    """Labels of a file, a map for each annotator."""
    maps = []
    for name in _label_names(ds):
        array = ds[name].drop_vars("time", errors="ignore").transpose(..., "lat", "lon")
        array.attrs = {}
        known = array.isin(range(len(CLASSES) + 1))
        array = array.where(known, NOT_COMPUTED).astype("uint8")
        others = [dim for dim in array.dims if dim not in ("lat", "lon")]
        stacked = array.stack(annotator=others) if others else array.expand_dims("annotator")
        maps += [
            stacked.isel(annotator=n).drop_vars(["annotator", *others], errors="ignore")
            for n in range(stacked.sizes["annotator"])
        ]
    return maps
