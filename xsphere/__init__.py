"""Extreme-event segmentation on the sphere, straight from xarray.

Importing this package gives every xarray object the accessor ``.sphere`` and costs next to nothing:
what is heavy is imported when it is used.
"""

import lazy_loader
import wrapt

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"


@wrapt.when_imported("xarray")
def _register_accessors(_xarray: object) -> None:
    # at once if xarray is there already, else the moment it is imported
    from xsphere import accessor  # noqa: F401
