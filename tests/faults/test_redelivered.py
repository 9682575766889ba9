"""What a broker that died still knows of its deliveries."""

from pathlib import Path
from typing import Any

import kombu
import pytest

from tests.faults.receiving import take


@pytest.mark.parametrize("persisted", [False, True])
def test_a_killed_broker_remembers_a_delivery_only_with_persist_jms_redelivered(activemq: Any, server_dir: Path, persisted: bool) -> None:
    """ActiveMQ keeps the mark in memory alone; kept on disk it costs a synchronous write before each delivery."""
    policy = 'prioritizedMessages="true"'
    server = type(activemq)(server_dir / f"redelivered-{persisted}", {policy: f'{policy} persistJMSRedelivered="true"'} if persisted else {})
    server.start()
    try:
        with kombu.Connection(server.url) as sender:
            kombu.Producer(sender).publish("held", routing_key="held")
        with kombu.Connection(server.url) as holder:
            first = take(holder, "held")
            server.kill()
        server.start()
        with kombu.Connection(server.url) as other:
            second = take(other, "held")
            second.ack()
        assert (first.delivery_info["redelivered"], second.delivery_info["redelivered"]) == (False, persisted)
    finally:
        server.stop()
