"""Celery's sending with a signature under each task message, made over the bytes that travel; events and control go as they are."""

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from celery.app.amqp import AMQP
from kombu import serialization
from kombu.exceptions import OperationalError

from federation.broker.errors import ConnectionLost
from federation.delivery.envelope import HEADER, SIGNATURE, settled
from federation.delivery.signer import Signer, name_of_process
from federation.errors import SettingsError, TransientError
from federation.security.key_files import keys_folder

logger = logging.getLogger(__name__)

# A header: one of our own that is sent twice, because its receipt or the commit after it was lost, has two signatures; a copy of a message has one.
SENDING = "federation_sending"
FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0


class SigningAMQP(AMQP):
    """What `app.send_task`, canvas, retries and our publisher send by; so also what stock tools send that load our application."""

    app: Any

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._signers: dict[int, Signer] = {}

    @property
    def signer(self) -> Signer:
        """Who signs for this process. Raises SettingsError if the database is not set, for it must know the key."""
        # A child must not share a lock that its parent may have held at the fork.
        found = self._signers.get(os.getpid())
        return found or self._signers.setdefault(os.getpid(), self._made())

    def _made(self) -> Signer:
        given = self.app.federation_settings()
        if given.database_service_url is None:
            raise SettingsError("FEDERATION_DATABASE_SERVICE_URL is not set: what is sent must be signed by a key that PostgreSQL knows")
        return Signer(name_of_process(), keys_folder(given), given.database_service_url.get_secret_value())

    def signed(
        self, headers: Mapping[str, Any], body: bytes, *, queue: str, content_type: str | None, content_encoding: str | None
    ) -> dict[str, Any]:
        """Return the headers with a signature; what has no envelope to say for whom it is, is for those who consume this queue.

        Raises KeyRevoked, SettingsError, DatabaseUnavailable where the key is not known yet, TypeError for headers that are no JSON.
        """
        node = None if headers.get(HEADER) is not None else queue
        made = self.signer.sign(settled(headers), body, node=node, content_type=content_type, content_encoding=content_encoding)
        return {**headers, SIGNATURE: made}

    def _retry_publish(self, publish: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Send what follows an execution that has run: its chain, its callbacks, the body of its chord; while ActiveMQ is away, again with back-off.

        Given up, as by Celery, the execution would count as failed, or the chord: it has had its effects, and nobody else would send what follows.
        """
        retry_s = FIRST_RETRY_S
        while True:
            try:
                return super()._retry_publish(publish, *args, **options)  # type: ignore[misc]  # missing in the stubs
            except (OperationalError, ConnectionLost, TransientError) as error:
                logger.warning("canvas.deferred reason=%s retry_s=%g", error, retry_s)
            time.sleep(retry_s)
            retry_s = min(retry_s * 2, LONGEST_RETRY_S)

    def _create_task_sender(self) -> Any:
        send = super()._create_task_sender()  # type: ignore[misc]  # missing in the stubs

        def send_signed(producer: Any, name: str, message: Any, **options: Any) -> Any:
            return send(_SigningProducer(producer, self), name, message, **options)

        return send_signed


class _SigningProducer:
    """A kombu producer that signs what it publishes, last of all: after the receivers of `before_task_publish` had their say."""

    def __init__(self, producer: Any, amqp: SigningAMQP) -> None:
        self._producer, self._amqp = producer, amqp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, **options: Any) -> Any:
        headers = options.get("headers") or {}
        if "task" not in headers:
            # An event of Celery's, which goes by the same producer.
            return self._producer.publish(body, **options)
        content_type, content_encoding = options.pop("content_type", None), options.pop("content_encoding", None)
        serializer = options.pop("serializer", None)
        if content_type is None:
            content_type, content_encoding, body = serialization.dumps(body, serializer)
        content_encoding = content_encoding or ("utf-8" if isinstance(body, str) else "binary")
        raw = body.encode(content_encoding) if isinstance(body, str) else bytes(body)
        queue = str(options.get("routing_key") or "")
        headers = {**headers, SENDING: uuid.uuid4().hex}
        headers = self._amqp.signed(headers, raw, queue=queue, content_type=content_type, content_encoding=content_encoding)
        return self._producer.publish(raw, **{**options, "headers": headers, "content_type": content_type, "content_encoding": content_encoding})
