"""Where the private keys of this machine lie, and how one is made at first need; knows no table."""

from pathlib import Path
from urllib.parse import quote

from federation.errors import SettingsError
from federation.security.signing import SigningKey, load_or_make, public_file
from federation.settings import Settings


def keys_folder(given: Settings) -> Path:
    """Return the folder of the keys that this machine's parts sign with."""
    return given.keys_dir or given.data_dir / "keys"


def agent_key_file(given: Settings, agent: str) -> Path:
    """Return the file of the private key of an agent on this machine."""
    # No part is called so. Two agents never have one file, nor one the public half of another: a dot in a name is escaped too.
    return keys_folder(given) / f"agent-{quote(agent, safe='').replace('.', '%2E')}.pem"


def own_key(path: Path) -> SigningKey:
    """Return the private key of this file, made if there is none yet. Raises SettingsError where its folder cannot be read or written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = load_or_make(path)
        # Who removed a private key has left the public half of that one.
        if public_file(path).read_text() != key.public.pem:
            public_file(path).write_text(key.public.pem)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; set FEDERATION_KEYS_DIR to a folder that this user can write") from error
    return key
