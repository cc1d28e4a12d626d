"""`evaluate`: two sides matched, sums streamed over blocks, scores made of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsphere.compat import is_unread
from xsphere.conventions import horizontal_grid
from xsphere.conventions.base import check_known_sizes
from xsphere.evaluation.checks import (
    Options,
    Side,
    Weighting,
    check_kinds,
    scored_classes,
    thresholds_of,
)
from xsphere.evaluation.derived import curves_of, scores_of
from xsphere.evaluation.result import Evaluation
from xsphere.evaluation.shares import ANNOTATOR, ClassShares, class_dim, class_names
from xsphere.evaluation.statistics import Scorer, Sums, added
from xsphere.evaluation.times import at_times_of, blocks_of
from xsphere.grids import Grid
from xsphere.model import Model
from xsphere.notices import shortened
from xsphere.regions.resampling import block_length
from xsphere.regions.steps import found_in_blocks
from xsphere.segmentation.checks import Threshold
from xsphere.sources import unchanged
from xsphere.store import in_whole_maps
from xsphere.weights import FieldMethod


def evaluate(  # noqa: PLR0913  (every one but three is a keyword)
    predicted: xr.DataArray | Model | str | Path,
    labels: xr.DataArray,
    ds: xr.Dataset | str | Path | None = None,
    *,
    classes: str | Sequence[str] | None = None,
    grid: Side | Grid = "labels",
    method: FieldMethod = "conservative",
    weighting: Weighting = "area",
    threshold: Threshold = None,
    min_area: float = 0.0,
    min_overlap: float = 0.0,
    block: str = "30D",
    n_samples: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Scores of a mask, probabilities or a model against labels, with intervals.

    All scores are ratios of sums over all times, never means over maps. Chunked arrays are read
    block by block on Dask, side by side; schedulers and chunks change nothing.

    Parameters
    ----------
    predicted : DataArray, Model, str or Path
        A mask with `flag_values` and `flag_meanings`; probabilities along ``class``, with their
        names as coordinate; or a model, or its name or path, which segments `ds`. Times that
        `labels` lack do not count.
    labels : DataArray
        What is true, as for `xsphere.fit`: integer classes, or probabilities (or booleans) along
        ``class``, on any grid. Of several along ``annotator``, the mean counts. Where it gives no
        class more than another, the first of them is the true one.
    ds : Dataset, str or Path, optional
        Fields for a model, as for `xsphere.segment`.
    classes : str or sequence of str, optional
        Classes to score; the others count as background. By default all, which must be the same
        on both sides.
    grid : {"labels", "predicted"} or Grid
        Where both are compared. What is on another grid is regridded: shares of classes, of which
        the largest wins.
    method : str
        How, as for `xsphere.regrid`; points all over the sphere have Voronoi cells.
    weighting : {"area", "cells"}
        Whether cells count by their area, or each as one.
    threshold : float, mapping or "argmax", optional
        What classes are decided by where `predicted` are probabilities, as for `xsphere.segment`:
        by default the thresholds of the model; without, and of an array, the likeliest class.
    min_area : float
        Regions smaller than this do not count, in km2.
    min_overlap : float
        A region is found if it shares a cell with one of its class, and at least this part of the
        smaller of both.
    block : str
        Length of the blocks of time that are drawn anew for the intervals, longer than events
        depend on each other.
    n_samples : int
        How often.
    seed : int
        Of what is drawn.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Evaluation
        Scores by class and their means, with and without background; each with the ends of its
        95 % interval, NaN where all times are in one block. Of probabilities, average precision,
        Brier score and calibration as well.

    Raises
    ------
    TypeError
        If `predicted` or `labels` is no array or model.
    ValueError
        If an option is out of range, classes, times or dimensions do not match, a grid cannot be
        regridded, probabilities are beyond 0 to 1, or no cell is known on both sides.

    Notes
    -----
    Cells that are unknown on either side (NaN, invalid, not computed, values that are no class)
    count nowhere; how many there are is in `Evaluation.cells`. Average precision is of
    1000 thresholds; ``average_precision_error`` says how far it may be from that of all.

    Examples
    --------
    >>> import xsphere
    >>> ds = xsphere.sample_dataset()
    >>> labels = xsphere.segment(ds, "tc-ar")
    >>> found = evaluate("tc-ar", labels, ds, n_samples=100, block="1D")
    >>> found.scores.iou.sel(group="atmospheric_river").item()
    1.0
    """
    options = Options(
        grid=grid,
        method=method,
        weighting=weighting,
        threshold=threshold,
        min_area=min_area,
        min_overlap=min_overlap,
        block=block,
        n_samples=n_samples,
        seed=seed,
    )
    check_kinds(predicted, labels, ds)
    chosen = scored_classes(predicted, labels, classes)
    thresholds = thresholds_of(predicted, options.threshold)
    labels = _streamed(_timed(labels))
    if not isinstance(predicted, xr.DataArray):
        predicted = _segmented(predicted, labels, ds)
    predicted = _streamed(at_times_of(labels, _timed(predicted), "predicted"))
    scorer = _scorer(predicted, labels, chosen, options, thresholds)
    numbers = blocks_of(labels.get_index("time"), block_length(block))
    sums_of_blocks, total = _summed(scorer, predicted, labels, numbers, progress=progress)
    names = ["background", *chosen]
    return Evaluation(
        scores=scores_of(sums_of_blocks, names, n_samples=n_samples, seed=seed),
        confusion=_confusion(total, names, options),
        curves=xr.Dataset() if scorer.certain else curves_of(total, names),
        cells=_cells(total),
        settings=_settings(predicted, labels, scorer, options, n_blocks=len(sums_of_blocks))
        | {"threshold": thresholds or None},
    )


def _timed(array: xr.DataArray) -> xr.DataArray:
    """With a dimension of time, which an array of one time may lack."""
    check_known_sizes({array.name: array.variable.chunksizes})
    return array if "time" in array.dims else array.expand_dims("time")


def _segmented(model: Any, labels: xr.DataArray, ds: Any) -> xr.DataArray:
    from xsphere.segmentation import segment
    from xsphere.segmentation.checks import dataset_of

    fields = dataset_of(ds)
    if "time" in fields.dims:
        fields = at_times_of(labels, fields, "ds")
    return segment(fields, model, output="probability")


def _streamed(array: xr.DataArray) -> xr.DataArray:
    """In blocks of whole maps, if it lies in a file and has none."""
    if not is_unread(array.variable):
        return array
    name = array.name
    return in_whole_maps(array.rename("_").to_dataset())["_"].rename(name)


def _scorer(
    predicted: xr.DataArray,
    labels: xr.DataArray,
    classes: Sequence[str],
    options: Options,
    thresholds: Mapping[str, float],
) -> Scorer:
    sides = {"predicted": predicted, "labels": labels}
    extra = []
    for what, array in sides.items():
        known = {"time", ANNOTATOR, class_dim(array), *horizontal_grid(array).dims}
        extra += [f"{dim} of {what}" for dim in array.dims if dim not in known]
    if extra:
        raise ValueError(
            f"both sides must have no dimensions but time, class, annotator and those of the "
            f"grid, got {shortened(extra)}; rename that of the times, choose one entry of others "
            "with .isel(...)"
        )
    grid = options.grid
    target = grid if isinstance(grid, Grid) else horizontal_grid(sides[grid]).grid
    names = {
        what: [*classes, *(name for name in class_names(array, what) if name not in classes)]
        for what, array in sides.items()
    }
    shares = {
        what: ClassShares.of(array, names[what], target, method=options.method, what=what)
        for what, array in sides.items()
    }
    return Scorer(
        predicted=shares["predicted"],
        labels=shares["labels"],
        grid=target,
        by_area=options.weighting == "area",
        n_classes=len(classes) + 1,
        certain=class_dim(predicted) is None,
        thresholds=tuple(thresholds[name] for name in names["predicted"] if thresholds),
        min_area=float(options.min_area),
        min_overlap=float(options.min_overlap),
    )


def _summed(
    scorer: Scorer,
    predicted: xr.DataArray,
    labels: xr.DataArray,
    numbers: Any,
    *,
    progress: bool,
) -> tuple[list[Sums], Sums]:
    """Sums of each block of time, and of all; steps are added in their order."""
    from tqdm.auto import tqdm

    sides = (scorer.predicted, predicted), (scorer.labels, labels)
    together = xr.Dataset({shares.what: shares.arranged(array) for shares, array in sides})
    found: dict[int, Sums] = {}
    with unchanged(predicted, labels):
        steps = found_in_blocks(together, scorer, ["time"])
        shown = tqdm(steps, "evaluating", len(numbers), unit="map", disable=not progress)
        for number, sums in zip(numbers.tolist(), shown, strict=True):
            found[number] = added(found[number], sums) if number in found else sums
    of_blocks = [found[number] for number in sorted(found)]
    total = {name: np.sum([sums[name] for sums in of_blocks], axis=0) for name in of_blocks[0]}
    if not total["cells"][1]:
        raise ValueError(
            "no cell is known both in predicted and in labels: "
            f"{total['cells'][2]:.0f} of {total['cells'][0]:.0f} are known in predicted, "
            f"{total['cells'][3]:.0f} in labels; check missing values, grids and flag_values"
        )
    return of_blocks, total


def _confusion(total: Sums, names: list[str], options: Options) -> xr.DataArray:
    units = "km2" if options.weighting == "area" else "1"
    return xr.DataArray(
        total["confusion"],
        {"true": names, "predicted": names},
        ("true", "predicted"),
        name="confusion",
        attrs={"long_name": "what is of a class and was predicted as one", "units": units},
    )


def _cells(total: Sums) -> dict[str, int]:
    cells, both, predicted, labels = (int(number) for number in total["cells"])
    return {
        "total": cells,
        "scored": both,
        "unknown_predicted": cells - predicted,
        "unknown_labels": cells - labels,
    }


def _settings(
    predicted: xr.DataArray,
    labels: xr.DataArray,
    scorer: Scorer,
    options: Options,
    *,
    n_blocks: int,
) -> dict[str, Any]:
    times = labels.get_index("time") if "time" in labels.coords else None
    sides = {"predicted": predicted, "labels": labels}
    names = {
        what: str(array.attrs.get("xsphere_model") or (what if array.name is None else array.name))
        for what, array in sides.items()
    }
    return {
        **names,
        "predicted_kind": "classes" if scorer.certain else "probabilities",
        "grid": repr(scorer.grid),
        "method": None if scorer.predicted.node is scorer.labels.node else options.method,
        "n_times": labels.sizes["time"],
        "start": None if times is None else str(times.min()),
        "end": None if times is None else str(times.max()),
        "block": str(options.block),
        "n_blocks": n_blocks,
        **{
            name: getattr(options, name)
            for name in ("weighting", "min_area", "min_overlap", "n_samples", "seed")
        },
    }
