"""Bookings of an account run one after the other, and those of different accounts side by side."""

import time
from pathlib import Path

from celery import Celery

import federation.broker  # noqa: F401  # registers activemq://

app = Celery("accounts", broker="activemq://user:password@localhost:61613/", backend="rpc://")
# The acknowledgement tells that a task is done, and not that it has begun.
app.conf.task_acks_late = True


@app.task
def book(account: str, number: int, ledger: str) -> None:
    with Path(ledger).open("a") as lines:
        lines.write(f"begin {account} {number}\n")
        lines.flush()
        time.sleep(0.01)
        lines.write(f"end {account} {number}\n")


@app.task
def note(account: str, number: int, ledger: str) -> None:
    book(account, number, ledger)


def route_by_account(name: str, args: tuple[str, ...], *_: object, **__: object) -> dict[str, str] | None:
    return {"message_group": f"account-{args[0]}"} if name == note.name else None


app.conf.task_routes = (route_by_account,)


def example(ledger: str) -> None:
    book.apply_async(("7", 1, ledger), message_group="account-7")
    note.delay("7", 2, ledger)
