"""Plans in words: a table for the screen, and beside it what a run achieved."""

from collections.abc import Sequence

from xsphere.blocks import WriteReport
from xsphere.planning.memory import peak_bytes
from xsphere.planning.plans import SCHEDULER_SECONDS, WORKERS, Plan


def plan_text(plan: Plan) -> str:
    """A plan as a table.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    str
        Counts, bytes, memory, seconds by stage, hours, and what they rest on.

    Examples
    --------
    >>> from xsphere.planning import plan
    >>> from xsphere.sample import SAMPLE
    >>> print(plan_text(plan(SAMPLE, "tc-ar", trial=False)).splitlines()[1])
    steps      2 in 1 block of 2, 1 task
    """
    lines = [f"plan of {plan.model!r} on {_common(plan.places)}", *_counts(plan)]
    if plan.seconds:
        lines += [*_stages(plan), *_hours(plan), *_assumptions(plan)]
    else:
        lines.append(
            _line("hours", "not known: nothing was measured (trial=True) or given (rates)")
        )
    return "\n".join([*lines, *(_line("note", note) for note in plan.notes)])


def compared(plan: Plan, report: WriteReport, *, peak_memory: int | None = None) -> str:
    """What was planned beside what a run achieved.

    Parameters
    ----------
    plan : Plan
        Made before the run, for the workers that it had.
    report : WriteReport
        Of the run, see `xsphere.write_blocks`.
    peak_memory : int, optional
        The most bytes that a worker had. If not given, that of this process, for a plan of one
        worker.

    Returns
    -------
    str
        A table: steps a second, hours for the blocks that the run computed, seconds a step by
        stage, memory. A stage that either does not tell of is left blank.

    Examples
    --------
    >>> from pathlib import Path
    >>> plan = Plan(
    ...     model="m", places=(), n_steps=100, n_samples=100, n_blocks=10, block_steps=10,
    ...     n_tasks=10, bytes_stored=1, bytes_read=1, bytes_decoded=1, reads_per_chunk=1.0,
    ...     bytes_result=1, bytes_written=None, memory_base=2**30, memory_thread=2**30,
    ...     seconds={"read": 0.1, "infer": 0.4},
    ... )
    >>> report = WriteReport(
    ...     path=Path("m.zarr"), n_blocks=10, written=10, n_steps=100, n_bytes=1, seconds=40.0,
    ...     stages={"read": 8.0, "infer": 30.0, "write": 1.0},
    ... )
    >>> print(compared(plan, report, peak_memory=2**30))
                  planned   achieved
    steps/s             2        2.5
    hours          0.0139     0.0111
    read              0.1       0.08  s a step
    infer             0.4        0.3  s a step
    write                       0.01  s a step
    memory        2.0 GiB    1.0 GiB
    """
    if not report.written:
        return "nothing was computed, so there is nothing to compare with the plan"
    whole = report.written == report.n_blocks
    # where a result has no steps, its blocks are along its cells
    steps = plan.n_steps if whole else report.n_steps
    rate, hours = plan.rate(), plan.hours()
    share = steps / max(1, plan.n_steps)
    rows = [
        ("steps/s", _number(rate), _number(steps / max(report.seconds, 1e-9)), ""),
        (
            "hours",
            _number(None if hours is None else hours * share),
            _number(report.seconds / 3600),
            "",
        ),
    ]
    for name in dict.fromkeys([*plan.seconds, *report.stages]):
        achieved = report.stages[name] / steps if name in report.stages else None
        rows.append((name, _number(plan.seconds.get(name)), _number(achieved), "s a step"))
    if peak_memory is None and plan.workers == 1:
        peak_memory = peak_bytes() or None
    rows.append(("memory", _size(plan.memory), _size(peak_memory), ""))
    lines = [f"{a:<10}{b:>11}{c:>11}  {d}".rstrip() for a, b, c, d in [_TITLES, *rows]]
    return "\n".join(lines)


_TITLES = ("", "planned", "achieved", "")


def _counts(plan: Plan) -> list[str]:
    maps = f", {plan.n_samples:,} maps" if plan.n_samples != plan.n_steps else ""
    stored = "of unknown size in the store"
    if plan.bytes_read is not None:
        stored = f"{_size(plan.bytes_read)} from the store"
    written = "" if plan.bytes_written is None else f", {_size(plan.bytes_written)} compressed"
    threads = _several(plan.threads_per_worker, "thread")
    device = f", {_size(plan.memory_device)} on its GPU" if plan.memory_device else ""
    return [
        _line(
            "steps",
            f"{plan.n_steps:,}{maps} in {_several(plan.n_blocks, 'block')} of "
            f"{plan.block_steps:,}, {_several(plan.n_tasks, 'task')}",
        ),
        _line("to read", f"{stored}, {_size(plan.bytes_decoded)} decoded"),
        _line("to write", f"{_size(plan.bytes_result)}{written}"),
        _line(
            "memory",
            f"{_size(plan.memory)} a worker of {threads}: {_size(plan.memory_base)} and "
            f"{_size(plan.memory_thread)} a thread{device}",
        ),
    ]


def _stages(plan: Plan) -> list[str]:
    total = sum(plan.seconds.values())
    how = "given"
    if plan.trial is not None:
        first, stop = plan.trial
        how = f"measured on steps {first:,} to {stop - 1:,}"
    return [
        _line("seconds", f"{total:.3g} a step and thread, {how}"),
        *(
            f"  {name:<9}{seconds:>10.3g} {100 * seconds / total:>4.0f} %"
            for name, seconds in plan.seconds.items()
        ),
    ]


def _hours(plan: Plan) -> list[str]:
    lines = [f"{'workers':<11}{'steps/s':>9}{'hours':>11}   limit"]
    for workers in sorted({plan.workers, *WORKERS}):
        rate, hours = plan.rate(workers), plan.hours(workers)
        mark = "  <- asked for" if workers == plan.workers else ""
        lines.append(
            f"{workers:<11,}{_number(rate):>9}{_number(hours):>11}   {plan.limit(workers)}{mark}"
        )
    return lines


def _assumptions(plan: Plan) -> list[str]:
    how = "stages of a thread follow each other"
    if plan.gpu:
        how += ", and a GPU serves one thread at a time while others read"
    store = "a store as fast for all workers as for one"
    if plan.read_bandwidth:
        store = f"{_size(plan.read_bandwidth)}/s from the store for all workers"
    return [
        _line(
            "assumed",
            f"{how}; a processor for each thread; {100 * plan.efficiency:.0f} % of its speed "
            f"beside others; {store}; {1e3 * SCHEDULER_SECONDS:.0f} ms of a scheduler a block; "
            "the start of workers not counted",
        )
    ]


def _common(places: Sequence[str]) -> str:
    """One file, or the folder that all are in."""
    if len(places) < 2:
        return "".join(places) or "a dataset"
    parts = [place.split("/") for place in places]
    shared = [same[0] for same in zip(*parts, strict=False) if len(set(same)) == 1]
    whole = "/".join(shared)
    return whole if all(place.startswith(f"{whole}/") for place in places) else ", ".join(places)


def _line(name: str, text: str) -> str:
    return f"{name:<11}{text}"


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _size(n_bytes: float | None) -> str:
    """Bytes in the largest unit of which there is one."""
    if n_bytes is None:
        return ""
    units: Sequence[str] = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = 0
    while n_bytes >= 1024 and power < len(units) - 1:
        n_bytes, power = n_bytes / 1024, power + 1
    return f"{n_bytes:.0f} bytes" if power == 0 else f"{n_bytes:.1f} {units[power]}"
