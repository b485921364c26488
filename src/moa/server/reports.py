"""What the server does when a run has ended: charge its key, count it, log it, and trace it."""

from __future__ import annotations

from moa.messages import Answer
from moa.server.charges import Charge
from moa.server.choices import Report
from moa.server.keys import Key
from moa.server.spans import RunSpan
from moa.server.telemetry import Metrics, log_run


class Reports:
    """Reports of ended runs."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def of(self, model: str, key: Key, charge: Charge) -> Report:
        """The function to call when a run of this model, requested with this key, has ended."""

        def report(answer: Answer, outcome: str, span: RunSpan) -> None:
            charge.add(answer, outcome)
            self._metrics.count(model, answer, outcome, key.name)
            log_run(model, answer, outcome, key.name)
            span.end(model, answer)

        return report
