"""What several annotators say together."""

import numpy as np
import pandas as pd
import xarray as xr

from xsphere.conventions import event_classes_of
from xsphere.conventions.masks import BACKGROUND
from xsphere.notices import shortened


def annotator_mean(labels: xr.DataArray) -> xr.Dataset:
    """Mean and spread over annotators: soft labels, and how much they disagree.

    Parameters
    ----------
    labels : DataArray
        Along ``annotator``: classes with `flag_values` and `flag_meanings`, or booleans along
        ``class``. Lazy if it is.

    Returns
    -------
    Dataset
        ``probability`` (..., class, ...): share of the annotators that say the class, which
        `xsphere.fit` and `xsphere.evaluate` take as labels; ``spread``, the standard deviation
        among them. Values that are no class (255, say) are no annotator's word; where nobody says
        anything both are NaN.

    Raises
    ------
    ValueError
        If there is no dimension ``annotator``, or the classes have no names.

    Examples
    --------
    >>> attrs = {"flag_values": [0, 1], "flag_meanings": "background cyclone"}
    >>> labels = xr.DataArray(np.array([[1, 0], [0, 0]]), dims=("annotator", "x"), attrs=attrs)
    >>> annotator_mean(labels).probability.values
    array([[0.5, 0. ]], dtype=float32)
    """
    if "annotator" not in labels.dims:
        raise ValueError(
            f"labels must have a dimension 'annotator', got {shortened(list(labels.dims))}"
        )
    if "class" in labels.dims:
        said = labels.astype(np.float32)
    else:
        named = event_classes_of(labels)
        known = labels.isin([BACKGROUND, *named])
        votes = [(labels == value).where(known) for value in named]
        said = xr.concat(votes, dim=pd.Index([*named.values()], name="class")).astype(np.float32)
        said = said.transpose(*(dim for dim in ("time",) if dim in said.dims), "class", ...)
    said.attrs = {}
    found = xr.Dataset({"probability": said.mean("annotator"), "spread": said.std("annotator")})
    found.probability.attrs = {"long_name": "share of the annotators", "units": "1"}
    found.spread.attrs = {"long_name": "standard deviation among annotators", "units": "1"}
    return found
