"""Published labelled datasets, opened lazily from files that the user has.

Nothing is downloaded. What these functions give is what `xsphere.fit`, `segment` and `evaluate`
take.
"""

from xsphere.datasets.annotators import annotator_mean
from xsphere.datasets.climatenet_files import climatenet
from xsphere.datasets.climatenet_large_files import climatenet_large
from xsphere.datasets.icosahedral_files import deepsphere_climate
from xsphere.datasets.published import LabelledFields

__all__ = [
    "LabelledFields",
    "annotator_mean",
    "climatenet",
    "climatenet_large",
    "deepsphere_climate",
]
