"""What one task awaits and a protocol answers: cheaper than asyncio's future, on a path that each canary goes
many times.

The task goes on within the call that answers, where no task runs; with a future it would in the next turn of
the loop, and each turn asks the system for news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
Wakeup = Callable[[Any], object]


class Waiter(Generic[T]):
    """Answered once, awaited by one task."""

    __slots__ = ("_answer", "_asyncio_future_blocking", "_context", "_done", "_error", "_loop", "_wakeup")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done = False
        self._answer: T | None = None
        self._error: BaseException | None = None
        self._wakeup: Wakeup | None = None
        self._context: Context | None = None
        self._asyncio_future_blocking = False

    def done(self) -> bool:
        """Whether it was answered."""
        return self._done

    def set_result(self, answer: T) -> None:
        """Ends the wait."""
        self._answer = answer
        self._end()

    def set_exception(self, error: BaseException) -> None:
        """Ends the wait with an error, which is lost where nobody waits."""
        self._error = error
        self._end()

    def expire(self) -> None:
        """The time for the answer is over: the wait ends with TimeoutError. Cheaper than a cancellation, and
        none."""
        if not self._done:
            self.set_exception(TimeoutError())

    def exception(self) -> BaseException | None:
        """The error it ended with."""
        return self._error

    def _end(self) -> None:
        self._done = True
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is None:
            return
        if asyncio.current_task(self._loop) is None:
            cast(Context, self._context).run(wakeup, self)
        else:  # two tasks cannot run at once
            self._loop.call_soon(wakeup, self, context=self._context)

    def __await__(self) -> Generator[Any, None, T]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    # what asyncio.Task asks of the future that it waits for

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the task that may wait."""
        return self._loop

    def add_done_callback(self, wakeup: Wakeup, *, context: Context) -> None:
        """Called by the task as it begins to wait."""
        if self._done:
            self._loop.call_soon(wakeup, self, context=context)
        else:
            self._wakeup, self._context = wakeup, context

    def remove_done_callback(self, wakeup: Wakeup) -> int:
        """Called by the task as it goes on."""
        self._wakeup = None
        return 1

    def result(self) -> T:
        """The answer. Raises the error where there is none."""
        if self._error is not None:
            raise self._error
        return cast(T, self._answer)

    def cancel(self, msg: Any | None = None) -> bool:
        """The task is cancelled: it goes on with CancelledError in the next turn, as with a future."""
        if self._done:
            return False
        self._done, self._error = (
            True,
            asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg),
        )
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            self._loop.call_soon(wakeup, self, context=self._context)
        return True
