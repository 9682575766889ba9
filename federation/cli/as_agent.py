"""Transactions of an agent at the command line, known by its token, whose statements are signed with the key of this machine."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from federation.cli.operator import check
from federation.delivery.runtime import transactions
from federation.delivery.voices import agent_voice
from federation.errors import SettingsError
from federation.local.person import person
from federation.services import agents
from federation.settings import settings

T = TypeVar("T")


def transact_as_agent(work: Callable[[Session], T]) -> T:
    """Do this in one transaction of the agent whose token FEDERATION_TOKEN is.

    Raises SettingsError without one, Unauthenticated for one that is not valid, KeyRevoked, DatabaseUnavailable, and what the work raises.
    """
    config = settings()
    if config.token is None:
        raise SettingsError("FEDERATION_TOKEN is not set: it says as which agent you act; get one with `federation agent token NAME`")
    check()
    opened = transactions()
    with opened.begin(person()) as session:
        name = agents.authenticate(session, config.token.get_secret_value()).name
    with opened.begin(name, voice=agent_voice(config, opened, name)) as session:
        return work(session)
