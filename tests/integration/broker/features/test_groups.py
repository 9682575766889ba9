"""Message groups: within one, tasks run in order, one at a time, on one worker; groups run side by side."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import kombu

from federation.broker.scheduled import list_scheduled, remove_scheduled

GROUPS, EACH = 10, 20


def entries(ledger: Path) -> list[list[str]]:
    return [line.split() for line in ledger.read_text().splitlines()]


def ended(ledger: Path) -> int:
    return sum(kind == "end" for kind, *_ in entries(ledger)) if ledger.exists() else 0


def send_all(accounts: Any, ledger: Path) -> None:
    """Half of the tasks name their group, the others get it by the router."""
    for number in range(EACH):
        for account in range(GROUPS):
            if number % 2:
                accounts.module.book.apply_async((str(account), number, str(ledger)), message_group=f"account-{account}", ignore_result=True)
            else:
                accounts.module.note.apply_async((str(account), number, str(ledger)), ignore_result=True)


def in_order_and_alone(ledger: Path) -> bool:
    """Whether the entries of each account are begin 0, end 0, begin 1, and so on."""
    by_account = defaultdict(list)
    for kind, account, number in entries(ledger):
        by_account[account].append((kind, int(number)))
    expected = [(kind, number) for number in range(EACH) for kind in ("begin", "end")]
    return dict(by_account) == {str(account): expected for account in range(GROUPS)}


def test_two_workers_share_the_groups_and_keep_the_order_within_each(project: Any, bus: Any, tmp_path: Path) -> None:
    accounts, ledger = project("accounts"), tmp_path / "ledger"
    workers = [accounts.start("--prefetch-multiplier=1") for _ in range(2)]
    send_all(accounts, ledger)
    bus.wait_for(lambda: ended(ledger) == GROUPS * EACH, "all bookings")
    assert in_order_and_alone(ledger)
    assert all("succeeded" in worker.log for worker in workers), "one worker did it all"


def test_the_order_holds_however_much_a_worker_fetches_ahead(project: Any, bus: Any, tmp_path: Path) -> None:
    accounts, ledger = project("accounts"), tmp_path / "ledger"
    send_all(accounts, ledger)
    accounts.start("--prefetch-multiplier=10", pool="threads", concurrency=8)
    bus.wait_for(lambda: ended(ledger) == GROUPS * EACH, "all bookings")
    assert in_order_and_alone(ledger)


def test_the_order_holds_when_a_worker_is_killed(project: Any, bus: Any, tmp_path: Path) -> None:
    accounts, ledger = project("accounts"), tmp_path / "ledger"
    first = accounts.start("--prefetch-multiplier=1")
    accounts.start("--prefetch-multiplier=1")
    send_all(accounts, ledger)
    bus.wait_for(lambda: ended(ledger) > 20, "some bookings")
    first.kill()
    bus.wait_for(lambda: len({(account, number) for kind, account, number in entries(ledger) if kind == "end"}) == GROUPS * EACH, "all bookings")
    for account in range(GROUPS):
        begun = [int(number) for kind, of, number in entries(ledger) if (kind, of) == ("begin", str(account))]
        # What ran when its worker died runs once more; nothing overtakes it.
        assert sorted(begun) == begun
        assert set(begun) == set(range(EACH))


def test_the_next_of_a_group_comes_when_the_last_is_settled_in_whatever_way(bus: Any, queue: kombu.Queue) -> None:
    sender = bus.connect()
    for number in range(4):
        bus.publish(sender, queue, number, message_group="a")
    bus.publish(sender, queue, "free")
    bus.publish(sender, queue, "other", message_group="b")
    inbox = bus.listen(bus.connect(), queue, prefetch_count=50)
    inbox.wait(3)
    assert inbox.stays_at(3)
    assert sorted(map(str, inbox.bodies)) == ["0", "free", "other"]
    first = next(message for message in inbox.messages if message.decode() == 0)
    first.ack()
    second = inbox.wait(4)[-1]
    assert second.decode() == 1
    second.reject()
    third = inbox.wait(5)[-1]
    assert third.decode() == 2
    third.requeue()
    assert inbox.wait(6)[-1].decode() == 3
    # What was requeued went to the end, still of its group.
    assert inbox.stays_at(len(inbox.messages))
    inbox.messages[-1].ack()
    assert inbox.wait(len(inbox.messages) + 1)[-1].decode() == 2


def test_a_cancel_returns_what_waited_for_its_turn_once_the_running_one_is_settled(bus: Any, queue: kombu.Queue) -> None:
    sender = bus.connect()
    for number in range(5):
        bus.publish(sender, queue, number, message_group="a")
    first = bus.listen(bus.connect(), queue, prefetch_count=50)
    running = first.wait()[0]
    assert first.stays_at(1)
    first.consumer.cancel()
    second = bus.listen(bus.connect(), queue, prefetch_count=50)
    assert second.stays_at(0), "two consumers work on one group"
    running.ack()
    for number in range(1, 5):
        assert second.wait(number)[-1].decode() == number
        second.messages[-1].ack()


def test_a_retry_stays_in_its_group(project: Any, bus: Any) -> None:
    reminders = project("reminders")
    reminders.start()
    result = reminders.module.knock.apply_async((1, 3600), message_group="door", stomp_headers={"colour": "red"})

    def scheduled() -> list[Any]:
        return [one for one in list_scheduled(bus.connect()) if one.task_id == result.id]

    bus.wait_for(lambda: bool(scheduled()), "the retry is scheduled")
    (retry,) = scheduled()
    assert (retry.stomp_headers["message_group"], retry.stomp_headers["colour"]) == ("door", "red")
    assert remove_scheduled(bus.connect(), retry.job_id)
