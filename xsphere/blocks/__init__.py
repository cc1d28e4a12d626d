"""Results written block by block: resumable, checksummed, verifiable and repairable."""

from xsphere.blocks.errors import (
    BlockFailure,
    BlocksFailed,
    IncompleteStoreError,
    InterruptedRun,
    OtherRunError,
    SharedWorkWarning,
    StoreError,
    StoreWriteError,
)
from xsphere.blocks.layout import Block
from xsphere.blocks.progress import Progress
from xsphere.blocks.reading import open_mask
from xsphere.blocks.verification import StoreReport, repair_store, verify_store
from xsphere.blocks.writing import WriteReport, write_blocks

__all__ = [
    "Block",
    "BlockFailure",
    "BlocksFailed",
    "IncompleteStoreError",
    "InterruptedRun",
    "OtherRunError",
    "Progress",
    "SharedWorkWarning",
    "StoreError",
    "StoreReport",
    "StoreWriteError",
    "WriteReport",
    "open_mask",
    "repair_store",
    "verify_store",
    "write_blocks",
]
