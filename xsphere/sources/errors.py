"""What can be wrong with stored data, told by variable, place and chunk."""


class SourceError(ValueError):
    """Stored data that cannot be read as what they claim to be.

    Parameters
    ----------
    variable : str
        Name of the variable.
    where : str
        The part of it that is affected, such as ``"time[6:8] of 8"``.
    key : str
        Name of the chunk in its store.
    reason : str
        What is wrong, and what to do.

    Examples
    --------
    >>> str(SourceError("PSL", "time[6:8] of 8", "PSL/3.0.0", "it is gone."))
    "variable 'PSL', time[6:8] of 8, chunk 'PSL/3.0.0': it is gone."
    """

    def __init__(self, variable: str, where: str, key: str, reason: str) -> None:
        super().__init__(variable, where, key, reason)
        self.variable, self.where, self.key, self.reason = variable, where, key, reason

    def __str__(self) -> str:
        place = f", {self.where}" if self.where else ""
        return f"variable {self.variable!r}{place}, chunk {self.key!r}: {self.reason}"


class MissingChunkError(SourceError):
    """A chunk that was asked for is not in the store.

    Zarr would give its fill value, often 0, without a word.

    Parameters
    ----------
    variable, where, key, reason : str
        As for `SourceError`.

    Examples
    --------
    >>> print(MissingChunkError("PSL", "time[6:8] of 8", "PSL/3.0.0", "it is gone."))
    variable 'PSL', time[6:8] of 8, chunk 'PSL/3.0.0': it is gone.
    """


class CorruptChunkError(SourceError):
    """A chunk is in the store, but is not what was written.

    Parameters
    ----------
    variable, where, key, reason : str
        As for `SourceError`.

    Examples
    --------
    >>> print(CorruptChunkError("PSL", "time[6:8] of 8", "PSL/3.0.0", "its checksum is wrong."))
    variable 'PSL', time[6:8] of 8, chunk 'PSL/3.0.0': its checksum is wrong.
    """


class UnsafeSourceError(ValueError):
    """Stored data that are refused unread: code among them, or blocks of absurd size.

    Examples
    --------
    >>> import xsphere
    >>> import zarr
    >>> group = zarr.create_group({})
    >>> _ = group.create_array("t", shape=(2**40,), chunks=(2**40,), dtype="u1",
    ...                        dimension_names=["x"])
    >>> xsphere.open(group.store)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xsphere.sources.errors.UnsafeSourceError: ...t...
    """


class SourceChangedError(ValueError):
    """Stored data that changed while something was computed from them.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import xarray as xr
    >>> from xsphere.sources.reads import unchanged
    >>> import xsphere
    >>> ds = xr.Dataset({"t": ("x", [1.0, 2.0])})
    >>> with TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     _ = ds.to_zarr(folder, consolidated=False)
    ...     with unchanged(xsphere.open(folder)):
    ...         _ = (ds + 1).to_zarr(folder, mode="w", consolidated=False)
    Traceback (most recent call last):
    xsphere.sources.errors.SourceChangedError: [...] changed while it was read, ...
    """
