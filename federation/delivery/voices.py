"""Who signs what is stated: this process with its own key, which attests for others, or an agent with the key that stays on its side."""

from typing import Any

from federation.delivery.signer import Signer, revoked
from federation.security.key_files import agent_key_file, own_key
from federation.security.statements import Draft, KeyVoice, Signed
from federation.services import agent_keys
from federation.settings import Settings
from federation.transaction import Transactions


class PartVoice:
    """Signs with the key that this process signs executions with: its own words in its own name, and as a witness in that of its callers."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def speak(self, draft: Draft) -> Signed:
        """Return the statement, signed. Raises KeyRevoked, SettingsError, DatabaseUnavailable where the key is not known so far."""
        signer: Signer = self._app.amqp.signer
        signer.register()
        return KeyVoice(signer.key, signer.name).speak(draft)


def agent_voice(config: Settings, transactions: Transactions, agent: str) -> KeyVoice:
    """Return what signs in the name of an agent who was authenticated here: the key of this machine, made and registered when it is first needed.

    Raises KeyRevoked, SettingsError, DatabaseUnavailable.
    """
    path = agent_key_file(config, agent)
    key = own_key(path)
    with transactions.begin(agent) as session:
        found = agent_keys.register(session, agent, key.public)
    if found.revoked_at is not None:
        raise revoked(path, found.revoked_at)
    return KeyVoice(key, agent)
