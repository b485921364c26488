"""How a run ended: ``answered``, ``degraded``, ``failed`` or ``cancelled``. The one place that decides it.

A run is cancelled when its events stop without a last one: the client disconnected, or the process is shutting down. Calls
that were cut off are billed all the same, so the answer that is reported holds an estimate for each of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from moa.messages import Answer
from moa.mixture.events import Event, RunFailed
from moa.mixture.run import Run
from moa.store.recording import Recording

OnEnd = Callable[[str, Answer], None]
"""Called once when a run ends, with its outcome and its answer."""


async def recorded(
    run: Run,
    *,
    recording: Recording | None = None,
    on_end: OnEnd | None = None,
) -> AsyncGenerator[Event, None]:
    """Yield a run's events unchanged; record each one, and when they end, record and report the outcome.

    Args:
        run: from :meth:`~moa.mixture.mixture.Mixture.run`; closed at the end.
        recording: receives every event and the outcome; None records nothing.
        on_end: receives the outcome and the answer, estimates included.
    """
    outcome = "cancelled"
    try:
        async with run:
            async for event in run:
                if recording:
                    recording.add(event)
                if isinstance(event, RunFailed):
                    outcome = "failed"
                yield event
        if outcome != "failed":
            outcome = "degraded" if run.answer.degraded else "answered"
    except Exception:
        outcome = "failed"
        raise
    finally:
        answer = run.estimated_answer
        if recording:
            for event in run.unread:
                recording.add(event)
            recording.end(outcome, answer)
        if on_end:
            on_end(outcome, answer)
