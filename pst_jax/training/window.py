"""What is counted between two log lines."""

import time
from typing import Any

import jax
import numpy as np

from pst_jax.training import metrics


class Window:
    """Metrics and times since the last log line."""

    def __init__(self):
        self.start, self.waited, self.sums = time.perf_counter(), 0.0, []

    def wait_for(self, batches) -> dict[str, Any]:
        """Takes the next batch, and counts the time that it took to come."""
        start = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - start
        return batch

    def add(self, sums: dict[str, jax.Array]) -> None:
        """Adds a step's sums; waits for the step before, so that one is computed ahead."""
        if self.sums:
            jax.block_until_ready(self.sums[-1])
        self.sums.append(sums)

    def close(self) -> dict[str, float]:
        """Returns the means over the window's clips, speed, and the share of waiting."""
        sums = jax.device_get(self.sums)
        seconds = time.perf_counter() - self.start
        total = {name: float(np.sum([s[name] for s in sums])) for name in sums[0]}
        values = metrics.means({k: total[k] for k in ("loss", "top1", "top5", "count")})
        values["grad_norm"] = total["grad_norm"] / len(sums)
        values["clips_per_s"] = total["count"] / seconds
        values["data_wait_share"] = self.waited / seconds
        return values
