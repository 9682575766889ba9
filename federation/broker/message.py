"""A delivered message as kombu hands it to a consumer; made from a frame, decodes nothing by itself."""

from typing import Any

from kombu.exceptions import DecodeError

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

    def _decode(self) -> Any:
        try:
            return super()._decode()
        except DecodeError as error:
            struck = error.__context__
            # kombu calls all that is raised meanwhile an error of the body, also what a signal's handler raises, as Celery's does on SIGQUIT
            # with a pool of threads; and Celery acknowledges a message with a bad body. A body that can be read now was not bad.
            super()._decode()
            raise struck or error from None
