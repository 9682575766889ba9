"""What events tell of claims and of the lines before them."""

from datetime import datetime

from typing_extensions import TypedDict

from federation.store.payloads.fields import Number


class Acquired(TypedDict):
    """The actor has won a resource, or extended (`renewed`) what it held."""

    resource: str
    fencing_token: Number
    expires_at: datetime
    description: str
    renewed: bool


class Lapsed(TypedDict):
    """A claim was over its time when the actor took over something of it."""

    resource: str
    holder: str
    fencing_token: Number


class Released(TypedDict):
    """Nobody holds the resource any more."""

    resource: str
    fencing_token: Number


class Waits(TypedDict):
    """Somebody waits in line for a resource, or waits no more without having won it."""

    resource: str
    holder: str
    place: Number
