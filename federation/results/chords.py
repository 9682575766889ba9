"""Chords joined by the database: a row counts the parts that have ended, and the last one sends the body; no task polls."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from celery import maybe_signature, states
from celery.app.task import Context
from celery.exceptions import ChordError
from celery.result import AsyncResult, GroupResult
from kombu.exceptions import OperationalError

from federation.results.rows import Row

log = logging.getLogger(__name__)

Meta = dict[str, Any]


FIRST_RETRY_S = 0.05
_GONE = "keep results longer than the chord runs (result_chord_expires)"


def send_body(backend: Any, request: Any, parts: int) -> None:
    """Send the body of the chord whose last of so many parts this request is, or fail it when a part failed.

    The body's id was fixed when the chord was sent, so that sending it twice, as after a crash of this worker, is one execution.
    """
    callback: Any = maybe_signature(request.chord, app=backend.app)
    try:
        values = header_values(backend, request.group, parts)
    except ChordError as error:
        log.info("results.chord_failed group_id=%s error=%s", request.group, error)
        _fail(backend, callback, error)
        return
    try:
        _publish(backend, callback, values, request.group)
    except Exception as error:  # whatever the broker raised becomes the result of the body, or its caller waits for ever
        log.exception("results.chord_body_unsent group_id=%s", request.group)
        refused = ChordError(f"Callback error: {error!r}")
        refused.__cause__ = error
        _fail(backend, callback, refused)


def _fail(backend: Any, callback: Any, error: Exception) -> None:
    """Fail a body that is not sent; where it is a part of a chord around this one, count it there as well, or that one would wait for ever."""
    backend.chord_error_from_stack(callback, error)
    given = callback.options
    part = Context(id=callback.id, chord=given.get("chord"), group=given.get("group_id"), group_index=given.get("group_index"))
    backend.on_chord_part_return(part, states.FAILURE, error)


def _publish(backend: Any, callback: Any, values: list[Any], group_id: str) -> None:
    """Send the body; while the broker is away, try again with back-off, as the backend does with its server away. Raises what refused it at last."""
    away = (OperationalError, *backend.app.connection_for_write().recoverable_connection_errors)
    delay_s, longest_s, retries = FIRST_RETRY_S, backend.max_sleep_between_retries_ms / 1000, 0
    while True:
        try:
            backend.app.amqp._retry_publish(callback.delay, values)
        except away as error:
            # Celery itself gives up within seconds: a chord whose last part ends while the broker is restarted would be lost.
            if not backend.always_retry or retries >= backend.max_retries:
                raise
            log.warning("results.chord_body_deferred group_id=%s retry_s=%.2f error=%s", group_id, delay_s, error)
        else:
            return
        time.sleep(delay_s)
        delay_s, retries = min(delay_s * 2, longest_s), retries + 1


def header_values(backend: Any, group_id: str, parts: int) -> list[Any]:
    """Return the values of a header in its order, nested where the header was.

    Raises ChordError when a part failed, or when its result is gone.
    """
    header, stored, values = backend.header(group_id)
    if header is not None:
        found: Mapping[str, Row] = backend._ensure_retryable(backend._rows, [leaf.id for leaf in leaves(header)])
        return [_nested(node, found, backend._meta) for node in header.results or []]
    if stored < parts:
        raise ChordError(f"{parts - stored} of {parts} parts have no result any more; {_GONE}")
    return [_value(backend._meta(row)) for row in backend.parts(group_id)] if values is None else values


def is_nested(header: GroupResult) -> bool:
    """Whether the order of the parts alone does not tell the shape of the header's value."""
    return any(isinstance(node, GroupResult) for node in header.results or [])


def leaves(node: Any) -> list[AsyncResult[Any]]:
    """Return the executions below a result, depth first."""
    if isinstance(node, GroupResult):
        return [leaf for child in node.results or [] for leaf in leaves(child)]
    return [node]


def _nested(node: Any, found: Mapping[str, Row], decode: Callable[[Row], Meta]) -> Any:
    if isinstance(node, GroupResult):
        return [_nested(child, found, decode) for child in node.results or []]
    if node.id not in found:
        raise ChordError(f"Dependency {node.id} has no result any more; {_GONE}")
    return _value(decode(found[node.id]))


def _value(meta: Meta) -> Any:
    if meta["status"] in states.PROPAGATE_STATES:
        raise ChordError(f"Dependency {meta['task_id']} raised {meta['result']!r}") from meta["result"]
    return meta["result"]
