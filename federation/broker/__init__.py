"""Registers `activemq://`, and `activemqs://` for TLS, with kombu on import; opens nothing and imports nothing else of ours."""

from kombu.transport import TRANSPORT_ALIASES

TRANSPORT_ALIASES["activemq"] = "federation.broker.transport:Transport"
TRANSPORT_ALIASES["activemqs"] = "federation.broker.transport:SecureTransport"
