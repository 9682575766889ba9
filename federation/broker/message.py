"""A delivered message as kombu hands it to a consumer; made from a frame, decodes nothing by itself."""

from typing import Any

from federation.broker.bases import BaseMessage
from federation.broker.envelope import unpack
from federation.broker.frames import Frame


class Message(BaseMessage):  # type: ignore[misc]  # see bases
    """kombu's message; its body is the raw body of the frame."""

    @classmethod
    def from_frame(cls, frame: Frame, *, queue: str, channel: Any, delivery_tag: int, consumer_tag: str | None) -> "Message":
        """Read a MESSAGE frame; one that kombu did not send is read too, see `envelope.unpack`."""
        fields = unpack(frame, queue)
        if consumer_tag is not None:
            fields["delivery_info"]["consumer_tag"] = consumer_tag
        message: Message = cls(channel=channel, delivery_tag=delivery_tag, postencode="utf-8", **fields)
        return message
