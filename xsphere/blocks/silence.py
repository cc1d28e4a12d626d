"""Workers of a cluster that give no sign of life: stopped, swapped out or cut off."""

import time
from typing import Any

from xsphere.notices import warn_user

# workers send a sign of life every half second, in clusters of thousands every ten
SILENT_SECONDS = 60.0
# between looks at all workers
LOOK_SECONDS = 5.0


class SilentWorkerWarning(UserWarning):
    """A worker has not been heard of for a minute; its blocks are computed elsewhere.

    Examples
    --------
    >>> Watch(client=None).is_due()
    False
    """


class Watch:
    """When each worker was last heard of, by the clock of this process."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.live: list[str] = []  # the other workers, while some are silent
        self._heard: dict[str, tuple[float, float]] = {}
        self._told: set[str] = set()
        self._looked = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() - self._looked >= LOOK_SECONDS

    def held_by_silent(self) -> set[str]:
        """Look at all workers, and name the tasks that silent ones hold and others can do."""
        now = self._looked = time.monotonic()
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        # the clock of the scheduler may be wrong: only a change of its times counts
        self._heard = {
            address: known
            if (known := self._heard.get(address)) and known[0] == worker["last_seen"]
            else (worker["last_seen"], now)
            for address, worker in workers.items()
        }
        silent = {a for a, (_, since) in self._heard.items() if now - since >= SILENT_SECONDS}
        live = sorted(set(self._heard) - silent)
        for address in sorted(silent - self._told):
            what = "its blocks are computed elsewhere" if live else "there is no other to take over"
            warn_user(
                f"worker {workers[address].get('name', address)} ({address}) has not been heard of "
                f"for {SILENT_SECONDS:.0f} s: it is stopped, swapped out or cut off; {what}. "
                "Continue it or end it",
                SilentWorkerWarning,
            )
        self._told = silent
        self.live = live if silent else []
        if not self.live:
            return set()
        held = self.client.processing(sorted(silent))
        return {key for keys in held.values() for key in keys}
