"""Random changes of training maps that keep their labels true, on the model's grid.

Each is a small frozen value that `xsphere.fit` takes in ``augment=[...]``, or is called by itself.
"""

from xsphere.augmentation.base import Augmentation, augmented
from xsphere.augmentation.cyclones import InsertCyclones
from xsphere.augmentation.mixing import CutMix
from xsphere.augmentation.moves import Mirror, Move, Tilt, Turn, Zoom
from xsphere.augmentation.values import Amplify, Noise, Smooth
from xsphere.augmentation.vortices import Vortex

__all__ = [
    "Amplify",
    "Augmentation",
    "CutMix",
    "InsertCyclones",
    "Mirror",
    "Move",
    "Noise",
    "Smooth",
    "Tilt",
    "Turn",
    "Vortex",
    "Zoom",
    "augmented",
]
