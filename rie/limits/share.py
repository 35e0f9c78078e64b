"""CPU in proportion to memory, as the service shares it out (pure)."""

from __future__ import annotations

from dataclasses import dataclass

MB_PER_CPU = 1769  # the service: "at 1,769 MB, a function has the equivalent of one vCPU"
MAX_CPUS = 6.0  # the service, at 10,240 MB
PERIOD_US = 20_000  # the most even one measured: with the kernel's 100 ms small functions run in bursts
MIN_QUOTA_US = 1_000  # the kernel accepts no less


@dataclass(frozen=True, slots=True)
class Quota:
    """CPU time in microseconds that may be used in each period."""

    quota_us: int
    period_us: int = PERIOD_US


def cpus(memory_mb: int) -> float:
    """The share of CPU time (1.0 = one vCPU) of a function with that memory."""
    return min(memory_mb / MB_PER_CPU, MAX_CPUS)


def quota(share: float) -> Quota:
    """The kernel's terms for a share."""
    return Quota(max(round(share * PERIOD_US), MIN_QUOTA_US))
