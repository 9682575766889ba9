"""Queues, dead letters and what is scheduled, on a command line of their own: `python -m federation.broker --help`.

Exit codes: 0 done · 1 no such message or queue · 2 wrong input · 69 the broker is not available or refuses · 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kombu import Connection

import federation.broker  # noqa: F401  # registers activemq://
from federation.broker import printing
from federation.broker.dead_letters import dead_letter_queues, list_dead_letters, purge_dead_letters, redrive, see_queue
from federation.broker.errors import BrokerError, NameRefused, NoDeadLetterQueue, OptionRefused, OptionUnknown, QueueUnknown
from federation.broker.opening import own_transport
from federation.broker.scheduled import list_scheduled, remove_scheduled

DONE, NOT_FOUND, WRONG_INPUT, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 69, 130
URL_VARIABLE = "CELERY_BROKER_URL"
SCHEMES = ("activemq", "activemqs")
_BEGINNINGS = " or ".join(f"{scheme}://" for scheme in SCHEMES)

_CODES: Mapping[type[BrokerError], int] = {
    QueueUnknown: NOT_FOUND,
    **dict.fromkeys((NameRefused, NoDeadLetterQueue, OptionRefused, OptionUnknown), WRONG_INPUT),
}

_NAMED = "the name that Celery has for it, or that of its dead-letter queue"

Command = Callable[[Connection, argparse.Namespace], int]


def main(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        with _connection(parser, given) as connection:
            if connection.transport_cls not in SCHEMES:
                parser.error(f"--app {given.app}: {connection.as_uri()} is no ActiveMQ, whose URL begins with {_BEGINNINGS}")
            return int(given.command(connection, given))
    except BrokerError as error:
        printing.tell(f"{type(error).__name__}: {error}")
        return next((code for kind, code in _CODES.items() if isinstance(error, kind)), UNAVAILABLE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _connection(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Any:
    if given.app:
        # Only who has Celery has an app, and its way to find one is not to be told twice.
        from celery.app.utils import find_app  # noqa: PLC0415

        sys.path.insert(0, os.getcwd())
        try:
            # As with `celery -A … -b …`: the options are the app's, the broker is the one that was given.
            return find_app(given.app).connection_for_write(given.broker)
        except (ImportError, AttributeError) as error:
            parser.error(f"--app {given.app}: {error}; name it as for `celery -A`")
    broker = given.broker or os.environ.get(URL_VARIABLE)
    if not broker:
        parser.error(f"where is the broker? give --app, --broker or the variable {URL_VARIABLE}")
    options: dict[str, Any] = {"queue_prefix": given.queue_prefix}
    if given.dead_letter_queue is not None:
        options["dead_letter_queue"] = given.dead_letter_queue
    if not broker.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        parser.error(f"--broker: the URL of an ActiveMQ begins with {_BEGINNINGS}")
    try:
        return Connection(broker, transport_options=options, connect_timeout=5)
    except (TypeError, ValueError) as error:
        parser.error(f"--broker: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m federation.broker", description="What is in ActiveMQ: queues, dead letters, the schedule.")
    parser.add_argument("-A", "--app", help="the Celery app whose broker and options to use, as for `celery -A`")
    parser.add_argument("-b", "--broker", help=f"the broker's URL, also in place of the app's; else the variable {URL_VARIABLE}")
    parser.add_argument("--queue-prefix", default="", help="the transport option of that name, where no app says it")
    parser.add_argument("--dead-letter-queue", help="the transport option of that name, where no app says it")
    nouns = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(nouns, "queues", _queues, "Show all queues and their sizes.")
    letters = nouns.add_parser("dead-letters", help="List, redrive or purge dead letters.").add_subparsers(required=True, metavar="COMMAND")
    listing = _add(letters, "list", _list, "Show how many there are of each queue, or those of one queue.")
    listing.add_argument("queue", nargs="?", help=_NAMED)
    listing.add_argument("--limit", type=_positive, default=100, help="how many at most (100)")
    driving = _add(letters, "redrive", _redrive, "Send dead letters back to their queue.")
    driving.add_argument("queue", help=_NAMED)
    which = driving.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", help="only this one")
    which.add_argument("--all", action="store_true", help="all of them")
    purging = _add(letters, "purge", _purge, "Remove dead letters for good.")
    purging.add_argument("queue", help=_NAMED)
    purging.add_argument("--yes", action="store_true", required=True, help="really do it")
    schedule = nouns.add_parser("scheduled", help="List or remove what waits for its time.").add_subparsers(required=True, metavar="COMMAND")
    _add(schedule, "list", _scheduled, "Show what is scheduled, the next one first.")
    removing = _add(schedule, "remove", _remove, "Remove one scheduled message for good.")
    removing.add_argument("job", help="its job, as `scheduled list` shows it")
    return parser


def _add(parsers: Any, name: str, command: Command, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parsers.add_parser(name, help=about, description=about)
    parser.add_argument("--json", action="store_true", help="print one JSON document; a body that is no text as body_base64")
    parser.set_defaults(command=command)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _queues(connection: Connection, given: argparse.Namespace) -> int:
    with own_transport(connection) as transport:
        sizes = transport.statistics().sizes()
    rows: list[Mapping[str, Any]] = [
        {"queue": name.removeprefix("/queue/"), "waiting": size.waiting, "in_flight": size.in_flight, "consumers": size.subscriptions}
        for name, size in sorted(sizes.items())
    ]
    printing.show(rows, as_json=given.json)
    return DONE


def _list(connection: Connection, given: argparse.Namespace) -> int:
    if given.queue is None:
        counts = dead_letter_queues(connection)
        printing.show([{"dead_letter_queue": name, "dead_letters": number} for name, number in counts.items()], as_json=given.json)
        return DONE
    found = list(list_dead_letters(connection, given.queue, limit=given.limit))
    if not found:
        see_queue(connection, given.queue)
    printing.show(
        [printing.as_row(letter) for letter in found], as_json=given.json, leave_out=("headers", "body", "body_base64", "dead_letter_queue")
    )
    return DONE


def _redrive(connection: Connection, given: argparse.Namespace) -> int:
    number = redrive(connection, given.queue, only=given.id, on_progress=printing.progress)
    if not number:
        see_queue(connection, given.queue)
    printing.show([{"queue": given.queue, "redriven": number}], as_json=given.json)
    if given.id and not number:
        printing.tell(f"no dead letter of {given.queue} has the id {given.id}; see: dead-letters list {given.queue}")
        return NOT_FOUND
    return DONE


def _purge(connection: Connection, given: argparse.Namespace) -> int:
    # Before it, because a purge makes the queue that it empties.
    see_queue(connection, given.queue)
    printing.show([{"queue": given.queue, "purged": purge_dead_letters(connection, given.queue)}], as_json=given.json)
    return DONE


def _scheduled(connection: Connection, given: argparse.Namespace) -> int:
    rows = [printing.as_row(one) for one in list_scheduled(connection)]
    printing.show(rows, as_json=given.json, leave_out=("headers", "stomp_headers", "body", "body_base64"))
    return DONE


def _remove(connection: Connection, given: argparse.Namespace) -> int:
    removed = remove_scheduled(connection, given.job)
    printing.show([{"job": given.job, "removed": removed}], as_json=given.json)
    if not removed:
        printing.tell(f"no scheduled message has the job {given.job}; see: scheduled list")
        return NOT_FOUND
    return DONE
