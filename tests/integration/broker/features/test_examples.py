"""What the documentation's examples send as their last lines is taken by ActiveMQ."""

from pathlib import Path
from typing import Any

from federation.broker.scheduled import list_scheduled, remove_scheduled


def waiting(project: Any, queue: str | None = None) -> int:
    size = project.size(queue)
    return 0 if size is None else int(size.waiting)


def test_the_examples_send_what_they_show(project: Any, bus: Any, tmp_path: Path) -> None:
    urgent, accounts, orders, reminders = (project(name) for name in ("urgent", "accounts", "orders", "reminders"))
    urgent.module.example()
    assert waiting(urgent) == 3
    accounts.module.example(str(tmp_path / "ledger"))
    assert waiting(accounts) == 2
    orders.module.example()
    assert waiting(orders, "orders") == 1
    reminders.module.example()
    connection = bus.connect()
    scheduled = [one for one in list_scheduled(connection) if one.queue == reminders.queue]
    assert [one.task for one in scheduled] == ["reminders.remind"] * 2
    assert all(remove_scheduled(connection, one.job_id) for one in scheduled)
