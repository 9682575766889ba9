"""How kombu's queues, exchanges and routing keys are named in ActiveMQ, any character included; pure functions."""

from urllib.parse import quote, unquote

from federation.broker.errors import NameRefused

# ActiveMQ reads a comma as a list, a question mark as options, `*` and `>` as wildcards, and a colon may make a scheme.
_SAFE = "@/+="
# ActiveMQ cuts a connection for a header line above 10 kB; the longest destination has a prefix and two names.
MOST_NAME_BYTES = 4000

PIDBOX = ".pidbox"
REPLY = "reply."


def encode_name(name: str) -> str:
    """Return a name that ActiveMQ takes literally; letters, digits and `._-~@/+=` stay, all else becomes %XX of UTF-8.

    Raises NameRefused.
    """
    try:
        encoded = quote(name, safe=_SAFE)
    except UnicodeEncodeError as error:
        raise NameRefused(name, "it holds half a character") from error
    if not encoded:
        raise NameRefused(name, "it is empty; a message without an exchange needs the name of a queue as its routing key")
    if len(encoded) > MOST_NAME_BYTES:
        raise NameRefused(name, f"it is too long: percent-encoded it may have {MOST_NAME_BYTES} bytes; choose a shorter one")
    return encoded


def decode_name(encoded: str) -> str:
    """Return the name that `encode_name` was given."""
    return unquote(encoded)


def is_wildcard(destination: str) -> bool:
    """Whether a destination stands for many; no name of ours does, because the signs are encoded in it."""
    return "*" in destination or ">" in destination


def is_remote_control(exchange: str) -> bool:
    """Whether an exchange belongs to Celery's remote control."""
    return exchange.endswith(PIDBOX)


def reply_queue(exchange: str, routing_key: str) -> str | None:
    """Return the queue of a remote-control reply: its binding is known to the asking client only, so its name must tell."""
    if exchange.startswith(REPLY) and is_remote_control(exchange):
        return f"{routing_key}.{exchange}"
    return None


def queue(name: str, prefix: str = "") -> str:
    """Return a queue's destination; mailboxes of remote control take no prefix, so that they never look like a user's queue."""
    return f"/queue/{'' if name.endswith(PIDBOX) else prefix}{encode_name(name)}"


def queue_name(destination: str, prefix: str = "") -> str:
    """Return the kombu queue behind a destination, the reverse of `queue`; one without the prefix keeps its whole name."""
    return decode_name(destination.removeprefix("/queue/").removeprefix(prefix))


def replies(user: str | None) -> str:
    """Return the topic where a user of the broker hears what the broker answers: his alone, where he may be given rights."""
    return f"/topic/replies.federation.{quote(user or 'anybody', safe='').replace('.', '%2E')}"


def dead_letters(destination: str, template: str) -> str:
    """Return the dead-letter queue of a queue destination; `{queue}` in the template stands for its name."""
    return "/queue/" + template.replace("{queue}", destination.removeprefix("/queue/"))


def fanout(exchange: str, prefix: str = "") -> str:
    """Return the topic of a fanout exchange: a virtual topic, from which durable queues are fed, or a plain one for remote control."""
    if is_remote_control(exchange):
        return f"/topic/{encode_name(exchange)}"
    return f"/topic/VirtualTopic.{prefix}{encode_name(exchange)}"


def fanout_queue(name: str, exchange: str, prefix: str = "") -> str:
    """Return the queue in which ActiveMQ keeps a fanout exchange's messages for a durable kombu queue."""
    # One path element: the broker's pattern is `Consumer.*.VirtualTopic.>`.
    element = encode_name(name).replace(".", "%2E")
    return f"/queue/Consumer.{element}.VirtualTopic.{prefix}{encode_name(exchange)}"


def event(exchange: str, routing_key: str, prefix: str = "") -> str:
    """Return the topic of one event."""
    return f"/topic/{prefix}{encode_name(exchange)}.{encode_name(routing_key)}" if routing_key else f"/topic/{prefix}{encode_name(exchange)}"


def event_pattern(exchange: str, binding: str, prefix: str = "") -> str:
    """Return the topics that an AMQP binding key selects; after a `#` within the key they are more than it selects."""
    parts = [f"{prefix}{encode_name(exchange)}"]
    for word in binding.split(".") if binding else ():
        if word == "#":
            parts.append(">")
            break
        parts.append("*" if word == "*" else encode_name(word))
    return "/topic/" + ".".join(parts)
