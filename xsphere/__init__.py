"""Extreme-event segmentation on the sphere, straight from xarray.

Importing this package gives every xarray object the accessor ``.sphere`` and imports nothing heavy
but xarray: the rest comes when it is used.
"""

import lazy_loader

from xsphere import accessor  # noqa: F401 (registers `.sphere`)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
