"""Stores that tell what was read of them."""

from pathlib import Path
from typing import Any

import xarray as xr
from zarr.storage import LocalStore, WrapperStore


class CountingStore(WrapperStore[LocalStore]):
    """A store that remembers which chunks were read."""

    def __init__(self, store: LocalStore, seen: list[str] | None = None) -> None:
        super().__init__(store)
        self.seen = [] if seen is None else seen

    def _with_store(self, store: LocalStore) -> "CountingStore":
        # opening read-only makes another store of the same kind
        return type(self)(store, self.seen)

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        if "/c/" in key:
            self.seen.append(key)
        return await super().get(key, *args, **options)


def counted(path: Path) -> tuple[xr.Dataset, list[str]]:
    """The dataset of a store and a list that fills with the chunks of fields that are read."""
    store = CountingStore(LocalStore(path))
    ds = xr.open_dataset(store, engine="zarr", chunks=None, consolidated=False)
    store.seen.clear()  # coordinates
    return ds, store.seen
