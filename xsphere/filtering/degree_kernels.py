"""What filters do to each degree: functions of l (l + 1), with scales in kilometres."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xsphere.grids import EARTH_RADIUS_KM
from xsphere.notices import shortened

KernelName = Literal["heat", "tikhonov", "mexican_hat", "low_pass", "high_pass", "band_pass"]
Eigenvalues = NDArray[np.float64]

_BY_SCALE = ("heat", "tikhonov", "mexican_hat")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A function of the eigenvalue l (l + 1) of the Laplacian of the sphere, by name.

    With ``s = scale / radius`` and ``x = l (l + 1)``:

    - ``"heat"``: ``exp(-s**2 x / 2)``, a Gaussian of standard deviation `scale`;
    - ``"tikhonov"``: ``1 / (1 + s**2 x)``, the smooth field nearest to the data, whose slopes are
      penalised; it falls off as ``exp(-distance / scale)``;
    - ``"mexican_hat"``: ``y exp(1 - y)``, ``y = s**2 x / 2``, a wavelet: the Laplacian of the
      Gaussian, 1 at its best degree, 0 for constants;
    - ``"low_pass"``: ``2**-(x / x_c)**order``, ``x_c = degree (degree + 1)``: one half at `degree`;
    - ``"high_pass"``: 1 less the low-pass;
    - ``"band_pass"``: the low-pass of the second degree less that of the first, so that low-pass,
      band-pass and high-pass add up to the field.

    Parameters
    ----------
    name : str
        One of these.
    scale : float, optional
        Kilometres, for the first three.
    degree : float or pair of float, optional
        Degree of spherical harmonics, for the last three: waves of a length of
        ``2 pi radius / degree``, 40,000 km by the degree on the Earth.
    order : int
        How sharp the cut-off is, 1 or more: with 4 the low-pass is 0.89 at 0.8 times the degree
        and 0.05 at 1.2 times. A sharper one rings: the field gets ripples of the wavelength of the
        cut-off, and overshoots beside what is steep.
    radius : float
        Of the sphere, in kilometres.

    Raises
    ------
    TypeError
        If `scale`, `degree` or `radius` are no numbers.
    ValueError
        If the name is unknown, what it needs is missing, or a number is out of range.

    References
    ----------
    .. [1] Sardeshmukh and Hoskins (1984), https://doi.org/10.1175/1520-0493(1984)112<2524:SSOTS>2.0.CO;2,
       the low-pass

    Examples
    --------
    >>> low = Kernel(name="low_pass", degree=10)
    >>> low(np.array([0.0, 110.0])).round(12)
    array([1. , 0.5])
    """

    name: KernelName
    scale: float | None = None
    degree: float | tuple[float, float] | None = None
    order: int = 4
    radius: float = EARTH_RADIUS_KM

    def __post_init__(self) -> None:
        if self.name not in get_args(KernelName):
            raise ValueError(
                f"kernel must be one of {list(get_args(KernelName))} or a function of l (l + 1), "
                f"got {self.name!r}"
            )
        self._check_which()
        self._check_values()

    def __call__(self, eigenvalues: Eigenvalues) -> Eigenvalues:
        """Factors for eigenvalues ``l (l + 1)``, shape kept."""
        x = np.asarray(eigenvalues, np.float64)
        values: Eigenvalues
        match self.name:
            case "heat":
                values = np.exp(-self._squared_scale * x / 2)
            case "tikhonov":
                values = 1.0 / (1.0 + self._squared_scale * x)
            case "mexican_hat":
                y = self._squared_scale * x / 2
                values = y * np.exp(1.0 - y)
            case "band_pass":
                values = self._below(x, self._degrees[1]) - self._below(x, self._degrees[0])
            case "high_pass":
                values = 1.0 - self._below(x, self._degrees[0])
            case _:
                values = self._below(x, self._degrees[0])
        return values

    def __str__(self) -> str:
        if self.name in _BY_SCALE:
            return f"{self.name}, scale {self.scale:g} km"
        degrees = " to ".join(f"{degree:g}" for degree in self._degrees)
        return f"{self.name}, degree {degrees}, order {self.order}"

    @property
    def _squared_scale(self) -> float:
        assert self.scale is not None
        return (self.scale / self.radius) ** 2

    @property
    def _degrees(self) -> tuple[float, ...]:
        return tuple(np.atleast_1d(np.asarray(self.degree, np.float64)).tolist())

    def _below(self, x: Eigenvalues, degree: float) -> Eigenvalues:
        # beyond 50 nothing is left, and powers of it would overflow
        ratio = np.minimum(x / (degree * (degree + 1.0)), 50.0)
        return np.asarray(np.exp2(-(ratio**self.order)))

    def _check_which(self) -> None:
        wanted, other = ("scale", "degree") if self.name in _BY_SCALE else ("degree", "scale")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            meaning = {"scale": "kilometres", "degree": "of spherical harmonics"}[wanted]
            raise ValueError(
                f"kernel {self.name!r} needs {wanted}= ({meaning}) and no {other}=, got "
                f"scale={shortened(self.scale)}, degree={shortened(self.degree)}"
            )

    def _check_values(self) -> None:
        for name in ("scale", "degree", "radius"):
            value = getattr(self, name)
            if value is not None and np.asarray(value).dtype.kind not in "fiu":
                raise TypeError(f"{name} must be a number, got {shortened(value)}")
        wanted = 2 if self.name == "band_pass" else 1
        problems = [
            f"{name} must be positive and finite, got {getattr(self, name)!r}"
            for name in ("scale", "radius")
            if getattr(self, name) is not None and not 0 < getattr(self, name) < np.inf
        ]
        if self.degree is not None and not self._are_degrees(wanted):
            what = "two rising degrees such as (10, 40)" if wanted == 2 else "a positive number"
            problems.append(
                f"degree must be {what} for {self.name!r}, got {shortened(self.degree)}"
            )
        if isinstance(self.order, bool) or int(self.order) != self.order or self.order < 1:
            problems.append(f"order must be an integer of at least 1, got {self.order!r}")
        if problems:
            raise ValueError("; ".join(problems))

    def _are_degrees(self, wanted: int) -> bool:
        degrees = np.asarray(self._degrees)
        finite = degrees.size == wanted and bool(np.isfinite(degrees).all())
        return finite and bool((np.diff(degrees, prepend=0.0) > 0).all())


def kernel_of(
    kernel: str | Callable[[Any], Any],
    scale: float | None,
    degree: Any,
    order: int,
    radius: float,
) -> Callable[[Any], Any]:
    """The kernel that a caller means by a name with options, or a function of their own."""
    if callable(kernel):
        if scale is not None or degree is not None:
            raise ValueError(
                "scale= and degree= belong to kernels by name; a function of l (l + 1) has its "
                f"own, got scale={shortened(scale)}, degree={shortened(degree)}"
            )
        return kernel
    if not isinstance(kernel, str):
        raise TypeError(
            f"kernel must be a name from {list(get_args(KernelName))} or a function of "
            f"l (l + 1), got {kernel!r}"
        )
    if isinstance(degree, list | np.ndarray):
        degree = tuple(degree)
    return Kernel(name=kernel, scale=scale, degree=degree, order=order, radius=radius)  # type: ignore[arg-type]


def title_of(kernel: Callable[[Any], Any]) -> str:
    """What a kernel is, for the attributes of a result."""
    if isinstance(kernel, Kernel):
        return str(kernel)
    return str(getattr(kernel, "__name__", type(kernel).__name__))
