"""Who signs what is stated: this process with its own key, which attests for others, or an agent with the key that stays on its side."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from federation.delivery.signer import Signer, keys_folder, own_key, revoked
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


def _key_file(folder: Path, agent: str) -> Path:
    # No part is called so. Two agents never have one file, nor one the public half of another: a dot in a name is escaped too.
    return folder / f"agent-{quote(agent, safe='').replace('.', '%2E')}.pem"


def agent_voice(config: Settings, transactions: Transactions, agent: str) -> KeyVoice:
    """Return what signs in the name of an agent who was authenticated here: the key of this machine, made and registered when it is first needed.

    Raises KeyRevoked, SettingsError, DatabaseUnavailable.
    """
    path = _key_file(keys_folder(config), agent)
    key = own_key(path)
    with transactions.begin(agent) as session:
        found = agent_keys.register(session, agent, key.public)
    if found.revoked_at is not None:
        raise revoked(path, found.revoked_at)
    return KeyVoice(key, agent)
