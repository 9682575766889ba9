"""A delivered message as kombu hands it to a consumer; made from a frame, decodes nothing by itself."""

import sys
from typing import Any

from kombu.exceptions import DecodeError

from federation.broker.bases import BaseMessage
from federation.broker.envelope import unpack
from federation.broker.frames import Frame
from federation.broker.unpacking import unpacked


class Message(BaseMessage):  # type: ignore[misc]  # see bases
    """kombu's message; its body is the raw body of the frame."""

    @classmethod
    def from_frame(cls, frame: Frame, *, queue: str, channel: Any, delivery_tag: int, consumer_tag: str | None) -> "Message":
        """Read a MESSAGE frame; one that kombu did not send is read too, see `envelope.unpack`."""
        fields = unpack(frame, queue)
        if consumer_tag is not None:
            fields["delivery_info"]["consumer_tag"] = consumer_tag
        headers = fields.pop("headers")
        # kombu itself would unpack whatever is there, however much that is.
        plain = {name: value for name, value in headers.items() if name != "compression"}
        message: Message = cls(channel=channel, delivery_tag=delivery_tag, postencode="utf-8", headers=plain, **fields)
        if method := headers.get("compression"):
            message.headers = headers
            try:
                message.body = unpacked(frame.body, method)
            except DecodeError:
                # As kombu keeps it: raised by who reads the body.
                message.errors.append(sys.exc_info())
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
