"""Waiting for results, the half of the backend that a client uses: get, join and iterate, woken by LISTEN; never polls."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from itertools import count
from typing import Any

from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, ResultSet
from typing_extensions import override

from federation.results import rows
from federation.results.connections import CONNECTION_ERRORS
from federation.results.listener import Listener
from federation.results.rows import Row

log = logging.getLogger(__name__)

Meta = dict[str, Any]
OnMessage = Callable[[Meta], None] | None
OnInterval = Callable[[], Any] | None


class JoiningBackend(BaseBackend):
    """The waiting methods of Celery's backend interface over a Listener; `_rows` is what a subclass adds.

    `interval` and `no_ack` are taken and ignored, as Celery's own event-driven backends do; `on_interval` is called after each arrival
    and at least every `recheck_s` seconds. Each waiter decodes for itself and fires its callbacks in its own thread.
    """

    listener: Listener[Row]
    recheck_s: float
    supports_native_join = True

    _cache: MutableMapping[str, Meta]
    _ensure_not_eager: Callable[[], None]

    @property
    def is_async(self) -> bool:
        # True lets Celery fire `GroupResult.then` when the last member has come.
        return True

    def _rows(self, task_ids: list[str]) -> dict[str, Row]:
        raise NotImplementedError

    def _meta(self, row: Row) -> Meta:
        return self.meta_from_decoded(rows.meta(row, self.decode))  # type: ignore[arg-type]  # Celery's decode takes text and None too

    @override
    def wait_for(
        self, task_id: str, timeout: float | None = None, interval: float = 0.5, no_ack: bool = True, on_interval: OnInterval = None
    ) -> Meta:
        """Return the meta dictionary of an execution that has ended. Raises celery.exceptions.TimeoutError."""
        return next(meta for _, meta in self.get_many({task_id}, timeout=timeout, on_interval=on_interval))

    @override
    def wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: OnMessage = None,
        on_interval: OnInterval = None,
        callback: Callable[..., Any] | None = None,
        propagate: bool = True,
    ) -> Any:
        for _, meta in self.get_many({result.id}, timeout=timeout, on_message=on_message, on_interval=on_interval):
            result._maybe_set_cache(meta)
        return result.maybe_throw(propagate=propagate, callback=callback)

    @override
    def iter_native(  # type: ignore[override]  # the stub says None, Celery iterates over it
        self,
        result: ResultSet,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: OnMessage = None,
        on_interval: OnInterval = None,
    ) -> Iterator[tuple[str, Any]]:
        """Yield (id, meta) of each member as it ends, and (id, members) of each nested group when all of it has ended."""
        nodes: list[Any] = list(result.results or [])
        leaves = [leaf for node in nodes for leaf in _leaves(node)]
        by_id: dict[str, list[AsyncResult[Any]]] = {}
        for leaf in leaves:
            by_id.setdefault(leaf.id, []).append(leaf)
        groups = {id(node): {leaf.id for leaf in _leaves(node)} for node in nodes if isinstance(node, ResultSet)}
        for node in nodes:
            if id(node) in groups and not groups[id(node)]:
                yield node.id, []
        for task_id, meta in self.get_many(set(by_id), timeout=timeout, on_message=on_message, on_interval=on_interval):
            for leaf in by_id[task_id]:
                leaf._maybe_set_cache(dict(meta))  # type: ignore[attr-defined]
            for node in nodes:
                if id(node) not in groups:
                    if node.id == task_id:
                        yield node.id, node._cache
                elif task_id in groups[id(node)]:
                    groups[id(node)].discard(task_id)
                    if not groups[id(node)]:
                        yield node.id, node.results

    def get_many(
        self,
        task_ids: Iterable[str],
        *,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: OnMessage = None,
        on_interval: OnInterval = None,
        max_iterations: int | None = None,
        READY_STATES: frozenset[str] = states.READY_STATES,  # noqa: N803  # Celery's name
    ) -> Iterator[tuple[str, Meta]]:
        """Yield (id, meta) of each execution as it ends; `max_iterations=1` looks once and does not wait.

        Raises celery.exceptions.TimeoutError when `timeout` seconds have passed and some have not ended.
        """
        self._ensure_not_eager()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        missing = {str(task_id) for task_id in task_ids}
        for task_id, meta in self._cached(missing, READY_STATES):
            missing.discard(task_id)
            yield task_id, meta
        if not missing:
            return
        with self.listener.watch(missing) as watch:
            arrived = self._look(missing)
            seen: dict[str, Row] = {}
            for iteration in count(1):
                for row in arrived:
                    if row.task_id not in missing or seen.get(row.task_id) == row:
                        continue
                    seen[row.task_id] = row
                    meta = self._meta(row)
                    if on_message is not None:
                        on_message(meta)
                    if row.state in READY_STATES:
                        missing.discard(row.task_id)
                        watch.discard(row.task_id)
                        if row.state == states.SUCCESS:
                            self._cache[row.task_id] = dict(meta)  # Celery changes the one it is given
                        yield row.task_id, meta
                if not missing or (max_iterations and iteration >= max_iterations):
                    return
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    why = f"; PostgreSQL could not be asked: {self.listener.trouble}" if self.listener.trouble else ""
                    raise CeleryTimeoutError(f"no result within {timeout} s of {len(missing)} execution(s), such as {min(missing)}{why}")
                arrived = watch.wait(min(remaining_s, self.recheck_s))
                if not arrived:
                    self.listener.start()
                if on_interval is not None:
                    on_interval()

    def _cached(self, task_ids: set[str], ready: frozenset[str]) -> list[tuple[str, Meta]]:
        found = []
        for task_id in task_ids:
            try:
                meta = self._cache[task_id]
            except KeyError:
                continue
            if meta["status"] in ready:
                found.append((task_id, meta))
        return found

    def _look(self, task_ids: set[str]) -> list[Row]:
        try:
            return list(self._rows(list(task_ids)).values())
        except CONNECTION_ERRORS as error:
            # Not raised: the listener looks as soon as it is connected, and a waiter goes on waiting over a restart.
            log.warning("results.look_deferred waiting=%d error=%s", len(task_ids), str(error).strip())
            return []


def _leaves(node: Any) -> list[AsyncResult[Any]]:
    if isinstance(node, ResultSet):
        return [leaf for child in node.results or [] for leaf in _leaves(child)]
    return [node]
