"""A scale model on paper: hours for archives that nobody measures with, from rates that were."""

from collections.abc import Callable
from typing import Any

from archive import stored_share
from stage_rates import STAGES, Cost, Pipeline

SIZES = {"1 TB": 1e12, "50 TB": 50e12, "1 PB": 1e15}
WORKERS = (1, 8, 64)
# samples in a task, as `xsphere.segment` chooses them, and what a scheduler takes for one
SAMPLES, SECONDS_A_TASK = 48, 1e-3
# of a worker; beside a GPU as in centres that have them
CORES, CORES_BESIDE_GPU = 1, 16
# bytes a second that come out of the store, for all workers together, and over one worker's network
STORE, NETWORK = 100e9, 25e9 / 8
# what is left of the rate of a worker where many run at once, beside what was measured for one
CROWD = 0.9
# steps a second of ten layers, 64 channels, K = 4 on an H200-class GPU, by level: estimates from
# its memory bandwidth, to a factor of two or three
GPU_RATES = {6: 630.0, 7: 160.0, 8: 40.0}


def print_scale(
    pipeline: Pipeline,
    costs: dict[str, Cost],
    print_table: Callable[[str, tuple[str, ...], list[tuple[Any, ...]]], None],
) -> None:
    """Print hours by size and number of workers, and the assumptions."""
    share = stored_share(pipeline.path)
    alone = sum(costs[stage].cpu for stage in STAGES)
    efficiency = min(1.0, alone / costs["end to end"].cpu)
    core = efficiency * CORES / alone
    feed = CORES_BESIDE_GPU / (costs["decode"].cpu + costs["regrid"].cpu)
    decode = CORES_BESIDE_GPU / costs["decode"].cpu
    kinds = {f"{CORES} core": core}
    for level, rate in GPU_RATES.items():
        beside = f"GPU at level {level} and {CORES_BESIDE_GPU} cores"
        kinds[f"{beside}, regridding on those (GPU not measured)"] = min(rate, feed)
        kinds[f"{beside}, regridding on the GPU (not measured)"] = min(rate, decode)
    rows = [
        (
            kind,
            f"{rate:.1f}",
            *(
                _hours(size, rate, n, pipeline.step_bytes, share)
                for size in SIZES.values()
                for n in WORKERS
            ),
        )
        for kind, rate in kinds.items()
    ]
    heads = ("worker", "steps/s of one", *(f"{size}, {n}" for size in SIZES for n in WORKERS))
    print_table("**On paper**: hours by size of the archive (decoded) and workers", heads, rows)
    print(
        f"\nAssumed: a step of {pipeline.step_bytes / 1e6:.1f} MB, {share:.2f} of it stored; of a "
        f"core, the processor time measured above, at {efficiency:.0%} of the ideal as measured; "
        f"of a GPU, 630, 160 and 40 steps/s at levels 6, 7 and 8 (estimates for ten layers of 64 "
        f"channels), while the cores beside it decode and regrid; {CROWD:.0%} of it where several "
        f"workers run; {NETWORK * 8 / 1e9:.0f} Gbit/s for each worker; at most {STORE / 1e9:.0f} "
        f"GB/s out of the store for all; {SECONDS_A_TASK * 1e3:.0f} ms of a scheduler for each "
        f"task of {SAMPLES} steps. A star says that the store, not the workers, is the limit."
    )


def _hours(size: float, rate: float, workers: int, step_bytes: int, share: float) -> str:
    """Hours for an archive of a size in bytes, with a star where the store is the limit."""
    stored = step_bytes * share
    each = min(rate, NETWORK / stored) * (CROWD if workers > 1 else 1.0)
    limits = {"workers": workers * each, "store": STORE / stored}
    limits["scheduler"] = SAMPLES / SECONDS_A_TASK
    least = min(limits, key=lambda name: limits[name])
    hours = size / step_bytes / limits[least] / 3600
    text = f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
    return f"{text}{'*' if least == 'store' else ''}"
