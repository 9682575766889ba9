"""kombu's channel: routes what is published, and settles what was delivered; the socket belongs to the transport."""

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from itertools import count
from queue import Empty
from typing import Any

from amqp.exceptions import PreconditionFailed
from amqp.protocol import queue_declare_ok_t

from federation.broker import cold, destinations, settling
from federation.broker.batch import PublishBatch
from federation.broker.beating import beat_beside
from federation.broker.celery_worker import is_worker, runs_in_the_loop
from federation.broker.closable import ClosableChannel
from federation.broker.connection import StompConnection
from federation.broker.consumer import Consumer, Source
from federation.broker.consumer_arguments import read_arguments
from federation.broker.dying import pack_dead, why_rejected
from federation.broker.envelope import REDELIVERED, first_id, is_persistent, pack, unpack
from federation.broker.errors import ArgumentRefused, ConnectionLost, OptionRefused, RequestRefused, Unroutable
from federation.broker.fetching import drain_queue, fetch_one
from federation.broker.frames import Frame, encode
from federation.broker.leaving import is_ending, never_run
from federation.broker.message import Message
from federation.broker.message import Message as Delivered
from federation.broker.options import Options
from federation.broker.qos import Delivery, QoS
from federation.broker.redelivery import Redelivered, find_hook, verdict
from federation.broker.subscription import Subscription, most_slots

logger = logging.getLogger(__name__)


class Channel(ClosableChannel):
    """A channel on its connection's socket; publishing and settling are safe from any thread."""

    QoS = QoS
    Message = Message
    closed: bool
    supports_fanout = True
    do_restore = False
    body_encoding = None
    from_transport_options = ("deadletter_queue",)

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.wire: StompConnection = connection.wire
        self.options: Options = connection.options
        self.subscriptions: dict[str, Subscription] = connection.subscriptions
        self._by_tag: dict[str, Consumer] = {}
        self._tags = count(1)
        self._told_undeliverable: set[str] = set()
        self._hook = find_hook(self.options.on_redelivered)

    def next_tag(self) -> int:
        """A delivery tag, rising."""
        return next(self._tags)

    # -- declaring

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        self.transport.queues[queue] = bool(kwargs.get("auto_delete") or kwargs.get("exclusive"))

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:
        """Declare a queue; only a passive declaration asks the broker for the number of messages.

        Raises ChannelError if a passive one finds no such queue, StatisticsMissing if the broker cannot tell.
        """
        if not passive:
            ok = queue_declare_ok_t(queue or f"amq.gen-{self.wire.next_id()}-{id(self):x}", 0, 0)
            self._new_queue(ok.queue, **kwargs)
            return ok
        return super().queue_declare(queue=queue, passive=True, **kwargs)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return queue in self.transport.queues or self._statistics(queue) is not None

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        source = self._source(queue, exchange, routing_key)
        if source.destination.startswith("/queue/Consumer."):
            # Made now, so that it gathers what is published before the consumer comes. Without prefetch nothing is delivered.
            subscription, receipt = self.wire.next_id(), self.wire.next_id()
            headers = {"id": subscription, "destination": source.destination, "ack": "client-individual", "activemq.prefetchSize": "0"}
            made = encode("SUBSCRIBE", headers) + encode("UNSUBSCRIBE", {"id": subscription, "receipt": receipt})
            self.wire.request(made, receipt, self.options.confirm_timeout)

    def _source(self, queue: str, exchange: str, routing_key: str) -> Source:
        options = self.options
        if exchange in options.event_exchanges:
            inner = "#" in routing_key.split(".")[:-1]
            return Source(destinations.event_pattern(exchange, routing_key, options.topic_prefix), routing_key if inner else None)
        if self.typeof(exchange).type == "fanout":
            if destinations.is_remote_control(exchange) or self.transport.queues.get(queue):
                return Source(destinations.fanout(exchange, options.topic_prefix))
            return Source(destinations.fanout_queue(queue, exchange, options.topic_prefix))
        return Source(destinations.queue(queue, options.queue_prefix))

    def sources(self, queue: str) -> list[Source]:
        """Return every destination that feeds a kombu queue, by the bindings that this connection knows."""
        found = {self._source(queue, binding.exchange, binding.routing_key): None for binding in self.state.queue_bindings(queue)}
        return list(found) or [Source(destinations.queue(queue, self.options.queue_prefix))]

    def _own_destinations(self, queue: str) -> list[str]:
        return [source.destination for source in self.sources(queue) if not source.is_topic]

    def after_reply_message_received(self, queue: str) -> None:
        """Do nothing: replies that come too late expire."""

    def exchange_declare(self, exchange: str | None = None, type: str = "direct", **kwargs: Any) -> None:
        """Declare an exchange; raises ArgumentRefused for a type that there is not."""
        if type not in self.exchange_types:
            raise ArgumentRefused("type", type, f"exchanges are {', '.join(sorted(self.exchange_types))}")
        super().exchange_declare(exchange, type, **kwargs)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """Purge a queue and forget its bindings; ActiveMQ itself removes a queue that stays empty and unused.

        Raises PreconditionFailed with `if_unused` if the queue has consumers, StatisticsMissing if the broker cannot tell.
        """
        if if_unused and self._is_used(queue):
            raise PreconditionFailed(f"PRECONDITION_FAILED - queue {queue!r} has consumers", (50, 40), "Channel.queue_delete", 406)
        if if_empty and self._size(queue):
            return
        self._purge(queue)
        for exchange, routing_key, _ in list(self.state.queue_bindings(queue)):
            self.queue_unbind(queue, exchange, routing_key)
        self.state.queue_bindings_delete(queue)
        self.transport.queues.pop(queue, None)

    # -- sizes

    def _statistics(self, queue: str) -> int | None:
        statistics = self.transport.statistics()
        sizes = [size.waiting for name in self._own_destinations(queue) if (size := statistics.size(name)) is not None]
        return sum(sizes) if sizes else None

    def _is_used(self, queue: str) -> bool:
        statistics = self.transport.statistics()
        return any((size := statistics.size(name)) is not None and size.subscriptions for name in self._own_destinations(queue))

    def _size(self, queue: str) -> int:
        return self._statistics(queue) or 0

    def _purge(self, queue: str) -> int:
        return sum(drain_queue(self.wire, name, self.transport.statistics_or_none()) for name in self._own_destinations(queue))

    # -- publishing

    def basic_publish(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        """Send a prepared message where exchange and routing key lead; without a queue bound there that we know of it is dropped, as in AMQP.

        Raises ConnectionLost, ConfirmationMissing, RequestRefused or MessageTooLarge; Unroutable for a `mandatory` message that would be
        dropped, and for an exchange that nobody has declared.
        """
        message["properties"].setdefault("delivery_info", {}).update(exchange=exchange, routing_key=routing_key)
        if not exchange:
            self._put(routing_key, message, **kwargs)
        elif exchange in self.options.event_exchanges:
            self._send(destinations.event(exchange, routing_key, self.options.topic_prefix), message, **kwargs)
        elif self._only_others_know(exchange, routing_key):
            self._see_who_hears(exchange, routing_key, mandatory=bool(kwargs.get("mandatory")))
            self._put_fanout(exchange, message, routing_key, **kwargs)
        else:
            if self.typeof(exchange).type != "fanout" and not self._lookup(exchange, routing_key):
                self._undeliverable(exchange, routing_key, mandatory=bool(kwargs.get("mandatory")))
            self.typeof(exchange).deliver(message, exchange, routing_key, **kwargs)

    def _only_others_know(self, exchange: str, routing_key: str) -> bool:
        # Celery does not declare the exchange of a Broadcast before it sends. Only fanout reaches queues that other processes have bound.
        here = exchange in self.state.exchanges or destinations.reply_queue(exchange, routing_key) is not None
        return not here and self.deadletter_queue is None

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """Start a batch; see kombu's Producer.batch."""
        return PublishBatch(self, max_size)

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> Any:
        reply = destinations.reply_queue(exchange, routing_key)
        return [reply] if reply else super()._lookup(exchange, routing_key, default)

    def _undeliverable(self, exchange: str, routing_key: str, *, mandatory: bool) -> None:
        # Another process may have bound a queue there, and nobody would learn that its message was lost.
        error = Unroutable(exchange, routing_key)
        if mandatory:
            raise error
        self._tell_once(exchange, error)

    def _see_who_hears(self, exchange: str, routing_key: str, *, mandatory: bool) -> None:
        statistics = self.transport.statistics_or_none()
        if statistics is None and not mandatory:
            self._tell_once(exchange, f"exchange {exchange!r} is taken for a fanout of others; without statistics nobody knows who hears it")
        elif statistics is None or not statistics.is_heard(destinations.fanout(exchange, self.options.topic_prefix)):
            raise Unroutable(exchange, routing_key)

    def _tell_once(self, exchange: str, told: object) -> None:
        if exchange not in self._told_undeliverable:
            self._told_undeliverable.add(exchange)
            logger.warning("%s (told once for each exchange)", told)

    def _put(self, queue: str, message: Mapping[str, Any], **kwargs: Any) -> None:
        self._send(destinations.queue(queue, self.options.queue_prefix), message, **kwargs)

    def _put_fanout(self, exchange: str, message: Mapping[str, Any], routing_key: str, **kwargs: Any) -> None:
        # A command to workers is rare, and who may not give it must hear so: without a receipt the broker would only cut the connection.
        certain = destinations.is_remote_control(exchange)
        self._send(destinations.fanout(exchange, self.options.topic_prefix), message, certain=certain, **kwargs)

    def _send(self, destination: str, message: Mapping[str, Any], *, batch: PublishBatch | None = None, certain: bool = False, **kwargs: Any) -> None:
        options = self.options
        headers, body = pack(message, destination, max_bytes=options.max_frame_size, schedule=options.schedule_eta)
        if batch is not None:
            batch.add(headers, body)
            return
        # Also with a receipt: a message that was never written is certainly not in the broker, and may be sent anew.
        self.wire.look_for_end()
        if options.confirm_publish and (certain or is_persistent(message)):
            receipt = headers["receipt"] = self.wire.next_id()
            timeout_s = kwargs.get("confirm_timeout") or kwargs.get("timeout") or options.confirm_timeout
            self.wire.request(encode("SEND", headers, body), receipt, timeout_s)
        else:
            self.wire.send(encode("SEND", headers, body))

    # -- consuming

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Set how many unsettled messages each consumer may have; 0 stands for the option `unlimited_prefetch`."""
        self.qos.prefetch_count = prefetch_count
        for consumer in list(self._by_tag.values()):
            consumer.resize(self._prefetch())

    def _prefetch(self) -> int:
        return self.qos.prefetch_count or self.options.unlimited_prefetch

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> None:
        """Start a consumer; when this returns, the broker knows of it.

        Raises ArgumentRefused for consumer arguments that make no sense, OptionRefused where a reject would lead back here, RequestRefused.
        """
        arguments = read_arguments(kwargs.get("arguments"))
        if not no_ack:
            self._see_that_letters_leave(queue)
        consumer = Consumer(self, queue, tag=consumer_tag, no_ack=no_ack, callback=callback)
        self._by_tag[consumer_tag] = consumer
        self._consumers.add(consumer_tag)
        self._tag_to_queue[consumer_tag] = queue
        self._active_queues.append(queue)
        self.transport.fresh = True
        consumer.start(self.sources(queue), self._prefetch(), arguments, most_slots(len(self._by_tag)))
        if runs_in_the_loop(consumer.pool):
            beat_beside(self.wire)

    def _see_that_letters_leave(self, queue: str) -> None:
        given = self.options.dead_letter_queue
        if any(destinations.dead_letters(name, given) == name for name in self._own_destinations(queue)):
            wanted = f"another queue than {queue!r}, from which this connection takes messages: each that it rejects would come again, for ever"
            raise OptionRefused("dead_letter_queue", given, wanted)

    def basic_cancel(self, consumer_tag: str) -> None:
        """End a consumer; its deliveries in flight stay ours until they are settled, but for those that an ending worker will not run.

        On a lost connection it has ended already.
        """
        consumer = self._by_tag.get(consumer_tag)
        pool = consumer.pool if consumer is not None else None
        if consumer is not None and pool is not None and (modules := cold.interrupted()) is not None:
            cold.end(modules, consumer, self.qos, self.wire)
        if pool is None or not is_ending():
            self._cancel(consumer_tag, lambda _: False)
            return
        never_runs = never_run(pool)
        self._cancel(consumer_tag, lambda delivery: never_runs(delivery.request))
        # Celery waits for what runs, with some pools where the heart-beats were sent.
        beat_beside(self.wire)

    def _cancel(self, consumer_tag: str, goes_back: Callable[[Delivery], bool]) -> None:
        consumer = self._by_tag.pop(consumer_tag, None)
        if consumer is not None:
            self._consumers.discard(consumer_tag)
            self._active_queues.remove(self._tag_to_queue.pop(consumer_tag))
            # On a dead connection the broker has done all this already. Celery's Gossip takes an error here for one of its own.
            with contextlib.suppress(ConnectionLost), consumer.cancelling():
                # Before what nobody got yet, which is younger.
                for delivery in self.qos.take_where(lambda delivery: delivery.subscription.cancelled and goes_back(delivery)):
                    self.requeue(delivery)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Delivered | None:
        """Take one message, or None if the queue has none that is free; raises OptionRefused where a reject would lead back here."""
        if not no_ack:
            self._see_that_letters_leave(queue)
        for destination in self._own_destinations(queue):
            while fetched := fetch_one(self.wire, destination, self.subscriptions, self.transport.statistics_or_none()):
                tag = self.next_tag()
                message = Delivered.from_frame(fetched.frame, queue=queue, channel=self, delivery_tag=tag, consumer_tag=None)
                if self.quarantined(fetched, message):
                    continue
                if no_ack:
                    self.acknowledge(fetched)
                else:
                    self.qos.append(fetched, tag)
                return message
        return None

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        raise Empty

    # -- settling

    def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that a delivery is done."""
        if delivery.subscription.acknowledges:
            delivery.settled(settling.acknowledge(delivery.frame, self.wire.next_id))
        else:
            delivery.settled()

    def requeue(self, delivery: Delivery) -> None:
        """Put a delivery back, marked as redelivered: one transaction of SEND and ACK, so that it is never there twice or not at all."""
        frame, subscription = delivery.frame, delivery.subscription
        if not subscription.acknowledges:
            delivery.settled()
            self.wire.put_back(Frame(frame.command, {**frame.headers, REDELIVERED: "true"}, frame.body))
        elif not subscription.owner.give_back(subscription):
            delivery.settled(settling.send_again(frame, subscription.owner.destination, self.wire.next_id))

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Move a delivery to its dead-letter queue in one transaction; where we cannot, the broker moves it, without the reason."""
        frame, subscription = delivery.frame, delivery.subscription
        if not subscription.acknowledges:
            delivery.settled()
            return
        transaction = {"transaction": self.wire.next_id()}
        stored = bool(self.options.dead_letter_queue) and self._store_dead(frame, subscription.owner.destination, reason, transaction)
        delivery.settled(settling.commit(frame, transaction) if stored else settling.refuse(frame))

    def _store_dead(self, frame: Frame, source: str, reason: str, transaction: Mapping[str, str]) -> bool:
        destination = destinations.dead_letters(source, self.options.dead_letter_queue)
        receipt = self.wire.next_id()
        headers = {**pack_dead(frame, destination, source=source, reason=reason), **transaction, "receipt": receipt}
        sent = encode("SEND", headers, frame.body)
        if len(sent) > self.options.max_frame_size:
            return False
        try:
            self.wire.request(encode("BEGIN", transaction) + sent, receipt, self.options.confirm_timeout)
        except RequestRefused as error:
            logger.warning("%s may not be written to, so the broker's own policy decides where a dead letter goes: %s", destination, error)
            self.wire.send(encode("ABORT", transaction))
            return False
        return True

    def quarantined(self, delivery: Delivery, message: Delivered) -> bool:
        """Ask the hook about a redelivered message; one that it refuses is moved to the dead-letter queue."""
        if self._hook is None or not message.delivery_info["redelivered"] or not delivery.subscription.acknowledges:
            return False
        queue = destinations.queue_name(delivery.subscription.owner.destination, self.options.queue_prefix)
        reason = verdict(self._hook, Redelivered(first_id(delivery.frame), queue, message.headers.get("task"), message.headers))
        if reason is not None:
            self.dead_letter(delivery, reason)
        return reason is not None

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it.

        Raises ConnectionLost if the connection of that delivery is gone; the broker delivers it again.
        """
        for delivery in self.qos.take(delivery_tag, multiple=multiple):
            self.acknowledge(delivery)

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Put a delivery back into its queue, or send it to the dead-letter queue."""
        for delivery in self.qos.take(delivery_tag):
            if requeue:
                self.requeue(delivery)
            else:
                headers = unpack(delivery.frame, "")["headers"]
                self.dead_letter(delivery, why_rejected(sys.exc_info()[1], headers, by_celery=is_worker()))

    def basic_recover(self, requeue: bool = False) -> Any:
        """Put all unsettled deliveries of this channel back into their queues; to this very consumer (without `requeue`) nothing can be."""
        if not requeue:
            raise NotImplementedError("ActiveMQ gives nothing to the same consumer again: use requeue=True")
        return self.qos.restore_unacked()

    def close(self) -> None:
        """Cancel the consumers; what is not settled goes back to its queue."""
        if self.closed:
            return
        self.closed = True
        # On a dead connection the broker has done this too.
        with contextlib.suppress(ConnectionLost):
            for tag in list(self._by_tag):
                self._cancel(tag, lambda _: True)
            self.qos.restore_unacked()
        if self.connection is not None:
            self.connection.close_channel(self)
