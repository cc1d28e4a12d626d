"""Extreme-event segmentation on the sphere, straight from xarray.

Importing this package gives every xarray object the accessor ``.sphere`` and costs next to nothing:
what is heavy is imported when it is used.
"""

import warnings
from contextlib import suppress

import lazy_loader
import wrapt

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"


@wrapt.when_imported("xarray")
def _register_accessors(_xarray: object) -> None:
    # at once if xarray is there already, else the moment it is imported, which must not fail by us
    try:
        from xsphere import accessor  # noqa: F401
    except Exception as error:
        message = f"objects of xarray lack .sphere: {type(error).__name__}: {error}"
        with suppress(Warning):  # where warnings are errors
            warnings.warn(message, UserWarning, stacklevel=1)
