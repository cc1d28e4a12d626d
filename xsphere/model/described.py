"""What a model says of itself, by its specification and the sizes of its tensors."""

from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from xsphere.grids import HealpixGrid
from xsphere.model.cards import Block, as_html, as_markdown, card_blocks
from xsphere.model.spec import ModelSpec


class Described:
    """Facts of a model: `xsphere.model.Model` has them."""

    spec: ModelSpec
    tensors: dict[str, NDArray[Any]]
    digest: Any

    @property
    def level(self) -> int:
        """HEALPix refinement level of input and output."""
        return self.spec.level

    @cached_property
    def grid(self) -> HealpixGrid:
        """Grid of input and output: one object, which keeps what is derived from it."""
        return HealpixGrid(self.spec.level)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes 1, 2, ...; 0 is the background."""
        return self.spec.classes

    @property
    def temperature(self) -> float:
        """Number that the network's scores are divided by before the softmax."""
        calibration = self.spec.calibration
        return 1.0 if calibration is None else calibration.temperature

    @property
    def thresholds(self) -> dict[str, float]:
        """Probability from which on a cell may have each class; empty for the likeliest class."""
        calibration = self.spec.calibration
        return {} if calibration is None else dict(calibration.thresholds)

    @property
    def n_parameters(self) -> int:
        """Number of trained weights."""
        return sum(tensor.size for name, tensor in self.tensors.items() if "running" not in name)

    def __repr__(self) -> str:
        spec = self.spec
        members = f", mean of {len(spec.members)} models" if spec.members else ""
        return (
            f"<Model {spec.name!r}: {self.n_parameters:,} parameters, HEALPix level {spec.level}, "
            f"{', '.join(variable.name for variable in spec.variables)} -> "
            f"{', '.join(spec.classes)}{members}>"
        )

    def card(self) -> str:
        """All that the model's file says of it, in Markdown.

        Returns
        -------
        str
            Inputs, grid, network, classes with their thresholds, data and recipe, scores, where it
            fails, licence and versions. What the file does not say is named as such.

        Examples
        --------
        >>> from xsphere.model import Model
        >>> print(Model.load("tc-ar").card())
        # tc-ar
        ...
        """
        return as_markdown(self._card())

    def _repr_html_(self) -> str:
        return as_html(self._card())

    def _card(self) -> list[Block]:
        return card_blocks(self.spec, self.n_parameters, self.digest)
