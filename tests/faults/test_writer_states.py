"""A store under everything that may happen to it, beside a dict of what must be in it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.faults.limits import LONG, time_limit
from tests.test_blocks import Counting, chunk, classes_at, damage, mask, row
from xsphere.blocks import (
    BlocksFailed,
    IncompleteStoreError,
    OtherRunError,
    open_mask,
    repair_store,
    starting,
    task,
    verify_store,
    write_blocks,
)


class Killed(BaseException):
    """Stands for the end of the process: no except clause of the library sees it."""


class Writer(RuleBasedStateMachine):
    """A store and a dict of what must be in it, whatever is done to the store."""

    blocks = st.integers(0, 4)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "m.zarr"
        self.state: dict[int, str] = {}
        self.complete = False

    def teardown(self) -> None:
        self.folder.cleanup()

    def values(self) -> Any:
        return classes_at(np.arange(9))

    @initialize(failing=st.sets(blocks))
    def begin(self, failing: set[int]) -> None:
        self.state = dict.fromkeys(range(5), "missing")
        self.write(failing)

    @rule(failing=st.sets(blocks))
    def write(self, failing: set[int]) -> None:
        """A run in which some blocks fail: what is done is not computed again."""
        counting = Counting(tuple(2 * block for block in failing))
        todo = {block for block, found in self.state.items() if found in ("missing", "lost")}
        if todo & failing:
            with pytest.raises(BlocksFailed):
                write_blocks(mask(counting, 9, 2), self.path, workers=1)
            self.complete = False
        else:
            write_blocks(mask(counting, 9, 2), self.path, workers=1)
            self.complete = True
        assert {start // 2 for start in counting.computed} == todo - failing
        self.state.update(dict.fromkeys(todo - failing, "good"))

    @precondition(lambda self: "good" in self.state.values())
    @rule(block=blocks, kind=st.sampled_from(["missing", "truncated", "flipped"]))
    def damage_chunk(self, block: int, kind: str) -> None:
        if self.state[block] == "good":
            damage(chunk(self.path, block), kind)
            self.state[block] = "lost" if kind == "missing" else "damaged"

    @rule(block=blocks)
    def kill_between_block_and_row(self, block: int) -> None:
        if self.state[block] == "good" and not self.complete:
            row(self.path, block).unlink()
            self.state[block] = "missing"

    @precondition(lambda self: "missing" in self.state.values())
    @rule(after=st.integers(0, 9))
    def kill_in_the_middle(self, after: int) -> None:
        """A run that ends after so many arrays were written, of blocks or rows."""
        todo = sorted(block for block, found in self.state.items() if found in ("missing", "lost"))
        written: list[str] = []
        put = task._put

        def put_or_die(array: Any, steps: slice, values: Any) -> None:
            if len(written) == after:
                raise Killed
            written.append(array.name)
            put(array, steps, values)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task, "_put", put_or_die)
            if after < 2 * len(todo):
                with pytest.raises(Killed):
                    write_blocks(mask(n=9, block=2), self.path, workers=1)
                self.complete = False
            else:
                write_blocks(mask(n=9, block=2), self.path, workers=1)
                self.complete = True
        self.state.update(dict.fromkeys(todo[: after // 2], "good"))
        if after % 2 and after < 2 * len(todo) and self.state[todo[after // 2]] == "lost":
            # its row was there, and now its chunk is again
            self.state[todo[after // 2]] = "good"

    @rule()
    def another_run(self) -> None:
        """Is refused, and changes nothing."""
        other = mask(n=9, block=2).assign_attrs(xsphere_run='{"model": "b2"}')
        before = {p: p.stat().st_mtime_ns for p in self.path.rglob("*")}
        with pytest.raises(OtherRunError, match="holds another run"):
            write_blocks(other, self.path, workers=1)
        with pytest.raises(OtherRunError, match="holds another run"):
            repair_store(self.path, other, workers=1)
        assert {p: p.stat().st_mtime_ns for p in self.path.rglob("*")} == before

    @rule()
    def kill_while_it_is_made_anew(self) -> None:
        """The store that is there stays, until another takes its place in one step."""

        def die(*_: Any) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(starting, "write_frame", die)
            with pytest.raises(Killed):
                write_blocks(mask(n=9, block=2), self.path, overwrite=True, workers=1)

    @rule(block=blocks)
    def kill_while_writing_a_file(self, block: int) -> None:
        partial = chunk(self.path, block).with_suffix(".0123.partial")
        partial.parent.mkdir(exist_ok=True, parents=True)
        partial.write_bytes(b"half")

    @rule(failing=st.sets(blocks, max_size=2))
    def repair(self, failing: set[int]) -> None:
        counting = Counting(tuple(2 * block for block in failing))
        bad = {block for block, found in self.state.items() if found != "good"}
        before = {b: chunk(self.path, b).read_bytes() for b in set(range(5)) - bad}
        if bad & failing:
            with pytest.raises(BlocksFailed):
                repair_store(self.path, mask(counting, 9, 2), workers=1)
            self.complete = False
            self.state.update(dict.fromkeys(bad & failing, "missing"))
        else:
            repair_store(self.path, mask(counting, 9, 2), workers=1)
            self.complete = True
        assert {start // 2 for start in counting.computed} == bad - failing
        self.state.update(dict.fromkeys(bad - failing, "good"))
        for block, content in before.items():
            assert chunk(self.path, block).read_bytes() == content

    @invariant()
    def what_is_found_is_what_was_done(self) -> None:
        if not self.state:
            return
        report = verify_store(self.path, workers=1)
        found = {
            kind: {b for b, k in self.state.items() if k == kind} for kind in self.state.values()
        }
        assert set(report.damaged) == found.get("damaged", set()) | found.get("lost", set())
        assert set(report.not_computed) == found.get("missing", set())
        assert (report.status == "complete") == self.complete
        assert report.ok == (self.complete and set(self.state.values()) == {"good"})

    @invariant()
    def readers_see_what_was_computed_or_nothing(self) -> None:
        there = {block for block, kind in self.state.items() if kind in ("good", "damaged")}
        if not self.complete or there != set(self.state):
            with pytest.raises(IncompleteStoreError):
                open_mask(self.path)
        values, expected = open_mask(self.path, allow_incomplete=True), self.values()
        for block, kind in self.state.items():
            steps = slice(2 * block, 2 * block + 2)
            if kind == "good":
                np.testing.assert_array_equal(values[steps], expected[steps])
            elif kind == "lost":
                assert (values[steps] == 255).all()


@time_limit(3600)
def test_whatever_is_done_the_ledger_is_right() -> None:
    run_state_machine_as_test(
        Writer,
        settings=settings(
            max_examples=200 if LONG else 5,
            stateful_step_count=20 if LONG else 7,
            deadline=None,
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
