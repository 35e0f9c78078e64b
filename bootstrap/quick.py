"""What the standard library's modules wrap: `signal` costs 8 ms to import for its enums, `collections` 4 ms."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections import deque
    from itertools import islice
else:
    import _signal as signal
    from _collections import deque
    from itertools import islice

__all__ = ["deque", "islice", "signal"]
