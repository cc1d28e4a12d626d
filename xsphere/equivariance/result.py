"""What a measure of equivariance found, as values and as text."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class EquivarianceError:
    """Relative equivariance error of an operator, by degree of the fields it acts on.

    Every array has one value a degree. Two measures stand side by side: `error` is the ratio
    ``|difference| / |L f|`` itself, not squared; `squared_error` is its square.

    Parameters
    ----------
    degrees : array of int64, shape (n_degrees,)
        Degrees of the spherical harmonics of which the fields consist.
    error : array of float64, shape (n_degrees,)
        Mean of the UNSQUARED ratio. Where the expectation was found without sampling, the square
        root of `squared_error`.
    squared_error : array of float64, shape (n_degrees,)
        Mean of the SQUARED ratio.
    low, high : arrays of float64, shape (n_degrees,)
        Confidence interval of `error`. NaN from a single sample; `error` itself if nothing was
        sampled.
    floor : array of float64, shape (n_degrees,)
        What the measure itself adds: `error` of the identity operator under the same rotations of
        values on cells, times the part of the output that has to be rotated so. Zero where
        nothing is.
    response : array of float64 or None
        The scalar c(l) that acts nearest to the operator on each degree, shape (n_degrees,); of an
        operator on several channels a matrix, shape (n_degrees, n_out_channels, n_channels). None
        by rotations.
    method : str
        ``"schur"``, ``"rotations"`` or ``"turns"``.
    confidence : float
        Of the interval.
    sampled : bool
        Whether random fields were drawn; else the expectation over all of them is given.

    Examples
    --------
    >>> from scipy import sparse
    >>> from xsphere.equivariance import equivariance_error
    >>> from xsphere.grids import HealpixGrid
    >>> found = equivariance_error(sparse.eye_array(192), HealpixGrid(2), [1, 5])
    >>> found.degrees, found.error.round(12), found.response.round(12)
    (array([1, 5]), array([0., 0.]), array([1., 1.]))
    """

    degrees: NDArray[np.int64]
    error: Floats
    squared_error: Floats
    low: Floats
    high: Floats
    floor: Floats
    response: Floats | None
    method: str
    confidence: float = 0.95
    sampled: bool = False

    @property
    def mean(self) -> float:
        """Mean of `error` over the degrees, each counted once."""
        return float(self.error.mean())

    def to_table(self) -> str:
        """Text of one line a degree.

        Returns
        -------
        str
            Columns ``degree``, ``error``, ``low``, ``high``, ``squared``, ``floor`` and, where
            there is one scalar a degree, ``c(l)``. Above them what was measured, below the mean.

        Examples
        --------
        >>> from scipy import sparse
        >>> from xsphere.equivariance import equivariance_error
        >>> from xsphere.grids import HealpixGrid
        >>> found = equivariance_error(2 * sparse.eye_array(192), HealpixGrid(2), [3])
        >>> print(found.to_table().splitlines()[1])
        degree  error      low        high       squared    floor      c(l)
        """
        columns = {
            "error": self.error,
            "low": self.low,
            "high": self.high,
            "squared": self.squared_error,
            "floor": self.floor,
        }
        if self.response is not None and self.response.ndim == 1:
            columns["c(l)"] = self.response
        lines = [self.title, "degree  " + "  ".join(f"{name:<9}" for name in columns)]
        for row, degree in enumerate(self.degrees):
            values = (f"{_short(column[row]):<9}" for column in columns.values())
            lines.append(f"{degree:>6}  " + "  ".join(values))
        lines.append(f"  mean  {_short(self.mean)}")
        return "\n".join(line.rstrip() for line in lines)

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        ratio = {
            "schur": "|L f - c f| / |L f|",
            "rotations": "|R L f - L R f| / |L f|",
            "turns": "|R L f - L R f| / |L f|, about the axis",
        }[self.method]
        how = f"low..high: {self.confidence:.0%}" if self.sampled else "exact expectation"
        return f"{self.method}: error = {ratio}, not squared; {how}"

    def __str__(self) -> str:
        return self.to_table()


def _short(value: float) -> str:
    return f"{value:.3g}"
