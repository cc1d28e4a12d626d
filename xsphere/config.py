"""Options from code, environment and file, in this order of precedence.

`set_options` changes them for a block of code or for good; ``XSPHERE_CACHE_DIR`` and its like set
them from the environment; ``~/.config/xsphere/*.yaml`` sets them for a user.
"""

import os
from typing import Any

from donfig import Config

from xsphere.paths import local_path

DEFAULTS: dict[str, Any] = {"cache_dir": None, "max_model_bytes": 8 * 2**30}


def _configured() -> Any:
    try:
        found = Config("xsphere", defaults=[DEFAULTS])
    # a reader of YAML has its own kinds of error
    except Exception as error:
        raise ValueError(
            f"the configuration of xsphere cannot be read ({type(error).__name__}: {error}); put "
            "right or remove the files in ~/.config/xsphere"
        ) from error
    # text, though it may look like a number or a list
    text = {name: os.environ.get(f"XSPHERE_{name.upper()}") for name in DEFAULTS}
    found.set({name: value for name, value in text.items() if value is not None})
    return found


config = _configured()


def set_options(**options: Any) -> Any:
    """Options of xsphere, set for good or, as a context manager, for a block of code.

    Parameters
    ----------
    **options
        ``cache_dir``: folder of graphs, weights and models that were built once; ``None`` means
        the user's cache folder, ``""`` means no cache. The environment variable
        ``XSPHERE_CACHE_DIR`` says the same. Whoever can write there decides what your processes
        read: choose a folder that only you, or people you trust, can write to.
        ``max_model_bytes``: memory that a model may need, by an estimate, before it is refused: 8
        GiB if not said otherwise; also ``XSPHERE_MAX_MODEL_BYTES``.

    Returns
    -------
    context manager
        Restores the former options on leaving.

    Raises
    ------
    KeyError
        If an option is unknown.
    TypeError, ValueError
        If a folder is no path on this machine.

    Examples
    --------
    >>> with set_options(cache_dir="/tmp/xsphere-example"):
    ...     config.get("cache_dir")
    '/tmp/xsphere-example'
    """
    unknown = sorted(set(options) - set(DEFAULTS))
    if unknown:
        raise KeyError(f"unknown options {unknown}; xsphere has {sorted(DEFAULTS)}")
    if options.get("cache_dir") not in (None, ""):
        local_path(options["cache_dir"], "cache_dir")
    return config.set(options)
