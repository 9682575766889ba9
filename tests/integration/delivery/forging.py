"""Messages as a part of the federation would sign and send them, for tests that alter them on their way."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.broker.envelope import pack
from federation.broker.frames import encode
from federation.delivery.envelope import HEADER, SIGNATURE, Envelope
from federation.delivery.signer import Signer
from federation.placement.requirements import Requirements
from tests.integration.delivery.test_delivery import stomp

World = Any
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}


@dataclass
class Sent:
    """A message, as it would travel."""

    headers: dict[str, Any]
    body: bytes
    content_type: str = "application/json"

    @property
    def id(self) -> uuid.UUID:
        return uuid.UUID(self.headers["id"])


def unsigned(world: World, name: str = "tests.leave_a_mark", *, number: int = 0, enveloped: bool = True, **options: Any) -> Sent:
    """A message that a part of the federation would send, but for the signature."""
    requirements = options.pop("requirements", {})
    kwargs = options.pop("kwargs", {"path": str(mark(world, number))})
    message = world.app.amqp.create_task_message(options.pop("task_id", str(uuid.uuid4())), name, None, kwargs, **options)
    envelope = Envelope(actor="tester", trace_id="0" * 32, requirements=Requirements(**requirements))
    # As they are when they have travelled.
    headers = json.loads(json.dumps({**message.headers, **({HEADER: envelope.header()} if enveloped else {})}))
    return Sent(headers, json.dumps(message.body).encode())


def signed(world: World, sent: Sent, *, signer: Signer | None = None, queue: str | None = None) -> Sent:
    node = None if HEADER in sent.headers else queue or world.calm_node
    who = signer or world.app.amqp.signer
    made = who.sign(sent.headers, sent.body, node=node, content_type=sent.content_type, content_encoding="utf-8")
    return Sent({**sent.headers, SIGNATURE: made}, sent.body, sent.content_type)


def genuine(world: World, **options: Any) -> Sent:
    return signed(world, unsigned(world, **options))


def put(world: World, sent: Sent, queue: str | None = None) -> None:
    world.publish_raw(queue or world.calm_node, sent.body, sent.headers, signed=False, **{**JSON, "content_type": sent.content_type})


def put_marked(world: World, sent: Sent, queue: str) -> None:
    """Send this once more, with the mark that the transport gives to what comes again."""
    properties = {"delivery_info": {"exchange": "", "routing_key": queue}, "delivery_mode": 2, "priority": 0}
    message = {"headers": sent.headers, "properties": properties, "content-type": sent.content_type, "content-encoding": "utf-8", "body": sent.body}
    told, raw = pack(message, world.destination(queue), max_bytes=10**6)
    stomp(world, encode("SEND", {**told, "kombu_redelivered": "true"}, raw))


def mark(world: World, number: int) -> Path:
    """The file that is there when the task of this number has run."""
    return Path(world.folder / f"mark-{number}")


def entry(world: World, identity: object) -> Any:
    """The reason for which a message of this id was put aside, the execution that it speaks of, and its body."""
    query = "SELECT reason, execution_id, body FROM quarantine WHERE headers->>'id' = %s"
    world.until(lambda: world.rows(query, str(identity)), f"{identity} is put aside")
    [found] = world.rows(query, str(identity))
    return found
