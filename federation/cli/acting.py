"""In whose name a command acts: of the agent whose token is set, else of the person at the command line."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from federation.cli.operator import check, transact
from federation.delivery.runtime import transactions
from federation.delivery.voices import agent_voice
from federation.local.person import person
from federation.services import agents
from federation.services.charter import is_agent
from federation.settings import settings

T = TypeVar("T")


def name() -> str:
    """Return in whose name this process acts. Raises Unauthenticated for a token that is not valid, and as `check` does."""
    token = settings().token
    if token is None:
        check()
        return person()
    return transact(lambda session: agents.authenticate(session, token.get_secret_value())).name


def transact_as(who: str, work: Callable[[Session], T]) -> T:
    """Do this in one transaction as somebody whose name was looked up before; what an agent states is signed with the key of this machine.

    Raises KeyRevoked, DatabaseUnavailable, and what the work raises.
    """
    opened = transactions()
    voice = agent_voice(settings(), opened, who) if is_agent(who) else None
    with opened.begin(who, voice=voice) as session:
        return work(session)
