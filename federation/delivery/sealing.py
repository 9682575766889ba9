"""Beat's job that seals the event log, and keeps the seals in a file outside of the database too."""

import logging
from pathlib import Path

from federation.errors import PermanentError
from federation.security import seals as seal_file
from federation.security.seals import Seal
from federation.security.signing import SigningKey, ensure_public, load, load_or_make
from federation.services import parts, seals
from federation.settings import Settings
from federation.transaction import Transactions

logger = logging.getLogger(__name__)

ACTOR = parts.SEALER


def seals_folder(given: Settings) -> Path:
    """Return the folder of the signing key and of the file of seals."""
    return given.seals_dir or given.data_dir / "seals"


def key_file(folder: Path) -> Path:
    """Return the file of the private key that signs."""
    return folder / "signing.pem"


def seals_file(folder: Path) -> Path:
    """Return the file of the seals, a line each."""
    return folder / "seals.jsonl"


_REMEDY = "all beats need one folder of seals (FEDERATION_SEALS_DIR): put the key back there, or nothing more is sealed"


class WrongKey(PermanentError):
    """The key that is here is not the one that has sealed so far; its text says what to do."""


class Sealer:
    """Seals what is not sealed yet; the key is made at the first seal."""

    def __init__(self, transactions: Transactions, *, folder: Path, most_events: int = seals.MOST_EVENTS) -> None:
        self._transactions, self._folder, self._most_events = transactions, folder, most_events

    def seal(self) -> None:
        """Seal all that has a number; a crash between the database and the file leaves seals that the next call writes down.

        Raises WrongKey where another key has sealed before.
        """
        made = 0
        while True:
            with self._transactions.begin(ACTOR) as session:
                if seals.seal_next(session, self._key(seals.last(session)), most=self._most_events) is None:
                    break
            made += 1
        self._write_down()
        if made:
            logger.info("seals.made count=%d", made)

    def _key(self, former: Seal | None) -> SigningKey:
        path = key_file(self._folder)
        if former is None:
            return load_or_make(path)
        # A new key would begin a chain that nobody can verify: not made where seals are.
        try:
            key = load(path)
        except FileNotFoundError as error:
            raise WrongKey(f"{path} is not there, and key {former.key[:16]} has sealed {former.last} events; {_REMEDY}") from error
        if key.public.identity != former.key:
            raise WrongKey(f"{path} is key {key.public.identity[:16]}, and key {former.key[:16]} has sealed {former.last} events; {_REMEDY}")
        ensure_public(path, key)
        return key

    def _write_down(self) -> None:
        path = seals_file(self._folder)
        number = seal_file.last_number(path)
        while True:
            with self._transactions.begin(ACTOR) as session:
                missing = seals.after(session, number)
            if not missing:
                return
            seal_file.append(path, missing)
            number = missing[-1].number
