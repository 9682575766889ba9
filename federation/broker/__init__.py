"""Registers `activemq://` with kombu on import; opens nothing and imports nothing else of ours."""

from kombu.transport import TRANSPORT_ALIASES

SCHEME = "activemq"

TRANSPORT_ALIASES[SCHEME] = "federation.broker.transport:Transport"
