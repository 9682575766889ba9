"""Hands one task message to ActiveMQ and waits for its receipt, with two ways to fail; decides nothing, retries nothing."""

import uuid
from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import KombuError, OperationalError

from federation.errors import BrokerUnavailable, PermanentError


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
    with app.producer_pool.acquire(block=True) as producer:
        connection = producer.connection
        assert connection is not None
        try:
            app.amqp.send_task_message(
                producer,
                task_name,
                message,
                queue=queue,
                priority=priority,
                headers=dict(headers or {}),
                delivery_mode=2 if persistent else 1,
                retry=False,
                **options,
            )
        except _lost(connection) as error:
            # The pool would hand the dead connection to the next sender.
            connection.collect()
            raise BrokerUnavailable("ActiveMQ does not answer; what is recorded is sent when it is back") from error
        except _refused(connection) as error:
            # STOMP 1.2: a server closes the connection after an ERROR.
            connection.collect()
            raise MessageRefused(f"{task_name} is not taken: {error}") from error


def _lost(connection: Connection) -> tuple[type[BaseException], ...]:
    return (OperationalError, *connection.connection_errors)


def _refused(connection: Connection) -> tuple[type[BaseException], ...]:
    return (*connection.channel_errors, KombuError, ValueError, TypeError)
