"""Models that teach another one: their mean probability is a part of its targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsphere.model import Model, ModelSpec
from xsphere.segmentation import Inference
from xsphere.segmentation.inference import probabilities
from xsphere.segmentation.node import pooled


@dataclass(frozen=True)
class Teaching:
    """What teachers add to targets; nothing without them.

    Parameters
    ----------
    teachers : tuple of Model
        With one specification of inputs and classes.
    share : float
        Part of the targets that is theirs.

    Examples
    --------
    >>> Teaching((), 0.5).to_dict()
    {}
    """

    teachers: tuple[Model, ...]
    share: float

    @classmethod
    def of(cls, teachers: Sequence[Model], share: float, spec: ModelSpec) -> "Teaching":
        """The same, refused where a teacher cannot see what the pupil sees."""
        problems = []
        if not 0 <= share <= 1:
            problems.append(f"teacher_share must be from 0 to 1, got {share}")
        for teacher in teachers:
            if not isinstance(teacher, Model):
                raise TypeError(f"teachers must be models, got {type(teacher).__name__}")
            problems += [
                f"teacher {teacher.spec.name!r} has {what} {its}, not {wanted}"
                for what, its, wanted in zip(
                    ("level", "variables", "classes"), _seen(teacher.spec), _seen(spec), strict=True
                )
                if its != wanted
            ]
        if problems:
            raise ValueError("; ".join(problems))
        return cls(tuple(teachers), share)

    def to_dict(self) -> dict[str, Any]:
        """For the record of a training."""
        if not self.teachers:
            return {}
        return {"teachers": [teacher.digest for teacher in self.teachers], "share": self.share}

    def __call__(
        self, fields: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Targets (n, cells, classes) for fields (n, cells, variables); unknown stays unknown."""
        if not self.teachers:
            return targets
        of_variables, options = np.moveaxis(fields, -1, 0), Inference(device="cpu")
        total = np.zeros_like(targets)
        for teacher in self.teachers:
            of_members = [
                probabilities(member, member.channels(*of_variables)[0], options)
                for member in teacher.members
            ]
            total += np.moveaxis(pooled(teacher, of_members), 1, -1)
        mean = total / len(self.teachers)
        known = targets.sum(-1, keepdims=True) > 0
        mixed: NDArray[np.float32] = np.where(
            known, (1 - self.share) * targets + self.share * mean, targets
        ).astype(np.float32)
        return mixed


def _seen(spec: ModelSpec) -> tuple[int, list[tuple[str, str]], tuple[str, ...]]:
    return spec.level, [(v.name, v.units) for v in spec.variables], spec.classes
