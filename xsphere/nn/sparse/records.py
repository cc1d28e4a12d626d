"""What compiled loops take: arrays of 64-bit integers, whose entries have names here."""

# Channels that go through all orders together: their sums fill half of the widest registers.
WIDTH = 128
# Rows of a matrix that a thread does at a time.
ROWS = 2048

# Columns of tables of blocks: first cell, end, cells with rings; where ids, counts, positions,
# columns and values stand; bytes from the values of one matrix to the next.
START, STOP, N_ALL, IDS, COUNTS, INDPTR, INDICES, VALUES, VALUES_ROW = range(9)
# Columns of tables of samples: where they stand, bytes from one sample and from one cell to the
# next, channels.
ADDRESS, SAMPLE, ROW, CHANNELS = range(4)

# Entries of a call: the next item; then, for loops over blocks, the next thread, the memory that
# threads work in and how much each has, and what `xsphere.nn.sparse.loops.Work` says.
COUNTER, THREADS, SCRATCH, OF_THREAD = range(4)
(
    N_TERMS, RECURSIVE, GATHERED, SHIFT, N_SAMPLES, N_CHANNELS, SIZE, SPACING,
    BLOCKS, N_BLOCKS, SOURCES, N_SOURCES, FOUR, WEIGH, SUM, MULTIPLY, N_SHARED,
) = range(4, 21)  # fmt: skip
