"""Options from code, environment and file, in this order of precedence.

`set_options` changes them for a block of code or for good; ``XSPHERE_CACHE_DIR`` and its like set
them from the environment; ``~/.config/xsphere/*.yaml`` sets them for a user.
"""

from typing import Any

from donfig import Config

DEFAULTS: dict[str, Any] = {"cache_dir": None}

config = Config("xsphere", defaults=[DEFAULTS])


def set_options(**options: Any) -> Any:
    """Options of xsphere, set for good or, as a context manager, for a block of code.

    Parameters
    ----------
    **options
        ``cache_dir``: folder of graphs, weights and models that were built once; ``None`` means
        the user's cache folder, ``""`` means no cache. The environment variable
        ``XSPHERE_CACHE_DIR`` says the same.

    Returns
    -------
    context manager
        Restores the former options on leaving.

    Raises
    ------
    KeyError
        If an option is unknown.

    Examples
    --------
    >>> with set_options(cache_dir="/tmp/xsphere-example"):
    ...     config.get("cache_dir")
    '/tmp/xsphere-example'
    """
    unknown = sorted(set(options) - set(DEFAULTS))
    if unknown:
        raise KeyError(f"unknown options {unknown}; xsphere has {sorted(DEFAULTS)}")
    return config.set(options)
