"""kombu's base classes without types, because the stubs in circulation contradict kombu's own code; adds nothing else."""

from typing import Any

import kombu.message
from kombu.transport import virtual

BaseChannel: Any = virtual.Channel
BaseMessage: Any = kombu.message.Message
BaseQoS: Any = virtual.QoS
BaseTransport: Any = virtual.Transport
