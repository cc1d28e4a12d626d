"""Warnings that point at the user's line, however deep in the package they arise."""

import os
import sys
import warnings
from pathlib import Path

# with the separator, so that a folder whose name goes on is not taken for it
PACKAGE = str(Path(__file__).parent) + os.sep


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line of code that is not in this package.

    Parameters
    ----------
    message : str
        What was expected, what came, what to do.
    category : type
        A subclass of UserWarning.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     warn_user("look", UserWarning)
    >>> str(seen[0].message)
    'look'
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
