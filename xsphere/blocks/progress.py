"""How far a run is, in numbers that a bar, a log or a test can show."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from xsphere.blocks.layout import BlockLayout
from xsphere.blocks.rows import counts_by_class
from xsphere.blocks.task import BlockResult


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    done : int
        Blocks in the store, those of earlier runs included.
    n_blocks : int
        All blocks.
    steps_per_second : float
        In this run, along the first dimension.
    shares : dict
        By mask and class, its part of the cells of this run.

    Examples
    --------
    >>> print(Progress(1, 4, 2.5, {"mask": {"background": 0.75, "cyclone": 0.25}}))
    2.5 steps/s, background 75.00 %, cyclone 25.00 %
    """

    done: int
    n_blocks: int
    steps_per_second: float
    shares: dict[str, dict[str, float]]

    def __str__(self) -> str:
        classes = [
            f"{name} {100 * share:.2f} %"
            for shares in self.shares.values()
            for name, share in shares.items()
        ]
        return ", ".join([f"{self.steps_per_second:.3g} steps/s", *classes])


class Tally:
    """Sums over the blocks of one run."""

    def __init__(self, layout: BlockLayout) -> None:
        self.layout = layout
        self.start = time.perf_counter()
        self.n_blocks = self.n_steps = self.n_bytes = 0
        self.entries: Any = 0
        self.seconds: dict[str, float] = {}

    def add(self, result: BlockResult) -> None:
        """Count a block."""
        self.n_blocks += 1
        self.n_steps += result.n_steps
        self.n_bytes += result.n_bytes
        self.entries = self.entries + np.array(result.entries, object)
        for stage, seconds in result.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.start

    def progress(self, already: int) -> Progress:
        """How far the run is, `already` blocks having been there."""
        counts = counts_by_class(self.entries, self.layout) if self.n_blocks else {}
        return Progress(
            already + self.n_blocks,
            len(self.layout.blocks),
            self.n_steps / max(self.elapsed, 1e-9),
            {name: _shares(classes) for name, classes in counts.items()},
        )


def _shares(classes: dict[str, int]) -> dict[str, float]:
    total = max(1, sum(classes.values()))
    return {name: count / total for name, count in classes.items()}


Show = Callable[[Progress], None]


@contextmanager
def shown(progress: str | Show | None, already: int, n_blocks: int) -> Iterator[Show]:
    """What is called after every block: the user's function, a bar with a title, or nothing."""
    if not isinstance(progress, str):
        yield progress or (lambda _: None)
        return
    from tqdm.auto import tqdm

    with tqdm(desc=progress, total=n_blocks, initial=already, unit="block") as bar:

        def show(now: Progress) -> None:
            bar.set_postfix_str(str(now), refresh=False)
            bar.update(now.done - bar.n)

        yield show
