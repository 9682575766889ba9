"""Hands a task message to ActiveMQ and waits for its receipt, with two ways to fail; tries again only over a fresh connection."""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery
from kombu import Connection, Message
from kombu.exceptions import KombuError, OperationalError

from federation.broker.errors import BrokerError, ConfirmationMissing, ConnectionLost
from federation.delivery.control import LOOK_FOR_CANCELLED
from federation.errors import BrokerUnavailable, PermanentError

logger = logging.getLogger(__name__)

# A header: how often this message was given back in good order, for want of the database.
RETURNS = "federation_returns"
# A header: how often a worker gave it back because its process was lost, or because it could not be done now for another reason.
LOSSES = "federation_losses"


class MessageRefused(PermanentError):
    """ActiveMQ answers and does not take this message, or it cannot be written down; its text has the reason."""


def send(
    app: Celery,
    task_name: str,
    kwargs: Mapping[str, Any],
    *,
    execution_id: uuid.UUID,
    queue: str,
    priority: int = 4,
    headers: Mapping[str, Any] | None = None,
    expires_s: float | None = None,
    persistent: bool = True,
    ignore_result: bool = False,
) -> None:
    """Send a task to a queue; priority from 0 to 9.

    A connection that turns out to have ended is made anew, and the message sent over it, at once and once. Only if it ended between
    the message and its receipt may ActiveMQ then have two, under one id: the effects happen once.
    Raises BrokerUnavailable if there is no receipt, MessageRefused if this one message is not taken.
    """
    # Not app.send_task: that starts to listen for the result, which the sender of an outbox does not read.
    try:
        message = app.amqp.create_task_message(
            str(execution_id),
            task_name,
            None,
            dict(kwargs),
            expires=expires_s,
            create_sent_event=app.conf.task_send_sent_event,
            ignore_result=ignore_result,
        )
    except (KombuError, ValueError, TypeError) as error:
        raise MessageRefused(f"{task_name} cannot be written as a message: {error}") from error
    options: dict[str, Any] = {"expiration": expires_s} if expires_s is not None else {}
    _publish(
        app,
        task_name,
        lambda producer: app.amqp.send_task_message(
            producer,
            task_name,
            message,
            queue=queue,
            priority=priority,
            headers=dict(headers or {}),
            delivery_mode=2 if persistent else 1,
            retry=False,
            event_dispatcher=_Courtesy(app),
            **options,
        ),
    )


def send_again(app: Celery, message: Message, *, count: str) -> None:
    """Send a delivered message to its queue as a new one, byte for byte, with one more on the count in this header, signed by this process.

    Raises as `send` does, also where this process cannot sign; MessageRefused also if it names another queue than those that this worker
    consumes.
    """
    name = str(message.headers.get("task"))
    info, properties = message.delivery_info or {}, message.properties
    queue = info.get("routing_key")
    if info.get("exchange") or queue not in app.amqp.queues.consume_from:
        raise MessageRefused(f"{name} came by {info.get('exchange')!r} and {queue!r}, where this worker does not consume")
    expiration = properties.get("expiration")
    body = message.body.encode() if isinstance(message.body, str) else message.body
    # kombu has taken the compression off.
    headers: dict[str, Any] = {key: value for key, value in message.headers.items() if key != "compression"}
    headers[count] = int(headers.get(count) or 0) + 1
    amqp: Any = app.amqp
    signed = amqp.signed(headers, body, queue=queue, content_type=message.content_type, content_encoding=message.content_encoding)
    _publish(
        app,
        name,
        lambda producer: producer.publish(
            body,
            exchange="",
            routing_key=queue,
            headers=signed,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            delivery_mode=properties.get("delivery_mode"),
            priority=properties.get("priority") or 0,
            expiration=None if expiration is None else float(expiration) / 1000,
            **{key: value for key, value in properties.items() if key in ("correlation_id", "reply_to")},
        ),
    )


def tell_cancelled(app: Celery, execution_ids: Sequence[str]) -> None:
    """Have all workers look whether these were cancelled, drop those, and end those that run where the pool can.

    No command: the database has decided. Raises BrokerUnavailable, MessageRefused.
    """
    given = {"ids": list(execution_ids)}
    _publish(app, LOOK_FOR_CANCELLED, lambda producer: app.control.broadcast(LOOK_FOR_CANCELLED, given, connection=producer.connection))


def _publish(app: Celery, task_name: str, publish: Callable[[Any], object]) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        connection = producer.connection
        assert connection is not None
        try:
            try:
                publish(producer)
            except ConfirmationMissing:
                # A broker that is connected and silent: another connection would wait as long again.
                raise
            except ConnectionLost as error:
                # Not one that cannot be made: that is kombu's OperationalError.
                logger.info("broker.connection_renewed reason=%s", error)
                connection.collect()
                producer.revive(connection)  # type: ignore[arg-type]  # the stub knows channels only
                publish(producer)
        except _lost(connection) as error:
            # The pool would hand the dead connection to the next sender.
            connection.collect()
            raise BrokerUnavailable("ActiveMQ does not answer; what is recorded is sent when it is back") from error
        except _refused(connection) as error:
            # STOMP 1.2: a server closes the connection after an ERROR.
            connection.collect()
            raise MessageRefused(f"{task_name} is not taken: {error}") from error


class _Courtesy:
    """Tells Flower what was sent; ActiveMQ has the message by then, and a lost event must not have it sent again."""

    def __init__(self, app: Celery) -> None:
        self._app: Any = app

    def publish(self, kind: str, fields: dict[str, Any], producer: Any, **options: Any) -> None:
        try:
            self._app.amqp._event_dispatcher.publish(kind, fields, producer, **options)
        except (BrokerError, OSError, KombuError) as error:
            logger.info("broker.event_lost", extra={"kind": kind, "reason": str(error)})


def _lost(connection: Connection) -> tuple[type[BaseException], ...]:
    return (OperationalError, *connection.connection_errors)


def _refused(connection: Connection) -> tuple[type[BaseException], ...]:
    return (*connection.channel_errors, KombuError, ValueError, TypeError)
