"""Retry a call with exponential backoff: the one retry loop of twinlens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random_exponential,
)

T = TypeVar("T")


def retry(
    call: Callable[[], T],
    retryable: Callable[[BaseException], bool],
    *,
    first_pause: float,
    longest_pause: float,
    seconds: float | None = None,
    attempts: int | None = None,
    jitter: bool = False,
    sleep: Callable[[float], Any] = time.sleep,
) -> T:
    """Call until it succeeds, fails for good, or the time or the attempts are used up.

    Args:
        call: takes no arguments; must be safe to call again after a failure half-way.
        retryable: whether an exception is worth another attempt. An exception with a
            ``retry_after`` in seconds is waited for at least that long.
        first_pause, longest_pause: seconds between attempts; each pause is twice the one before.
        seconds: give up when the next pause would end later than this after the start.
        attempts: give up after so many calls; None for no limit.
        jitter: draw each pause at random, so that clients do not come back all at once.
        sleep: waits for so many seconds; what it raises ends the retrying.

    Returns:
        What ``call`` returned.

    Raises:
        Whatever the last call raised.
    """
    backoff = (
        wait_random_exponential(first_pause, longest_pause)
        if jitter
        else wait_exponential(first_pause, longest_pause)
    )

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(backoff(state), float(getattr(error, "retry_after", 0.0)))

    def stop(state: RetryCallState) -> bool:
        late = seconds is not None and stop_before_delay(seconds)(state)
        return late or (attempts is not None and stop_after_attempt(attempts)(state))

    retrying = Retrying(
        wait=pause,
        stop=stop,
        retry=retry_if_exception(retryable),
        sleep=sleep,
        reraise=True,
    )
    return retrying(call)
