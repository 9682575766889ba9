"""The reason of a reject is what its consumer handled meanwhile, and nothing more is said where that says nothing of the message."""

from typing import Any

import pytest

from federation.broker.dying import REJECTED, why_rejected


@pytest.mark.parametrize(
    ("error", "headers", "by_celery", "reason"),
    [
        (None, {"task": "sum"}, True, ""),
        (SystemExit(0), {"task": "sum"}, True, ""),
        (KeyboardInterrupt(), {}, False, ""),
        (KeyError("sum"), {"task": "sum"}, True, ": it knows no task 'sum'"),
        (KeyError("sum"), {"task": "other"}, True, ": KeyError: 'sum'"),
        (KeyError("sum"), {}, True, ": it knows no task 'sum'"),
        (KeyError("sum"), {}, False, ": KeyError: 'sum'"),
        (KeyError("task"), {}, True, ": it is no task of Celery (KeyError: 'task')"),
        (KeyError("task"), {}, False, ": KeyError: 'task'"),
        (KeyError(1, 2), {"task": None}, False, ": KeyError: (1, 2)"),
        (TypeError("no"), {"task": "sum"}, True, ": TypeError: no"),
    ],
)
def test_why(error: BaseException | None, headers: dict[str, Any], by_celery: bool, reason: str) -> None:
    assert why_rejected(error, headers, by_celery=by_celery) == REJECTED + reason
