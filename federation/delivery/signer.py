"""This process's signature under what it sends: a key of its own, made at first start, which PostgreSQL knows before anything is signed with it."""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from federation.delivery.envelope import canonical_bytes, signature_header
from federation.errors import PermanentError, TransientError
from federation.local.person import person
from federation.security.key_files import own_key
from federation.security.signing import SigningKey
from federation.services import signers
from federation.transaction import Silent, Transactions, connect

logger = logging.getLogger(__name__)

# How long this process goes on with a key that was revoked; what it sent meanwhile is put aside, and can be sent again.
LOOK_AGAIN_S = 10.0

_names: list[str] = []


class KeyRevoked(PermanentError):
    """The key of this process was revoked: it sends nothing any more; its text says what to do."""


def act_as(name: str) -> None:
    """Say what this process is, such as `node:taichi`, before it signs anything; a name that was said before stays."""
    if not _names:
        _names.append(name)


def name_of_process() -> str:
    """Return what this process signs as: its part in the federation, or the person at the command line."""
    return _names[0] if _names else person()


def key_file(folder: Path, name: str) -> Path:
    """Return the file of the private key of a part."""
    return folder / f"{re.sub('[^A-Za-z0-9_.@-]', '-', name)}.pem"


def revoked(path: Path, at: datetime) -> KeyRevoked:
    """Return what whoever has a key must know that was revoked."""
    return KeyRevoked(f"the key {path} was revoked at {at:%Y-%m-%d %H:%M}: remove the file and start anew, and another is made")


class Signer:
    """Signs in one name; safe to share between threads, never between processes."""

    def __init__(self, name: str, folder: Path, database_url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self._folder, self._url, self._clock = name, folder, database_url, clock
        self._lock = threading.Lock()
        self._registered = False
        self._look_at = float("-inf")

    @cached_property
    def key(self) -> SigningKey:
        """The private key, made if there is none yet. Raises SettingsError where the folder cannot be read or written."""
        return own_key(key_file(self._folder, self.name))

    def register(self) -> None:
        """See to it that PostgreSQL knows the key. Raises KeyRevoked, SettingsError, DatabaseUnavailable where it was not known so far."""
        with self._lock:
            if self._clock() < self._look_at:
                return
            try:
                self._register()
            except TransientError:
                if not self._registered:
                    raise
                # Nobody can revoke anything now.
                logger.info("signer.not_looked_up", extra={"signer": self.name})
            self._look_at = self._clock() + LOOK_AGAIN_S

    def _register(self) -> None:
        public = self.key.public
        engine = connect(self._url, most=2)
        try:
            with Transactions(engine, Silent()).begin(self.name) as session:
                found = signers.register(session, self.name, public)
                if not self._registered and found.revoked_at is None:
                    signers.register_services(session, self.name, public.identity)
        finally:
            engine.dispose()
        if found.revoked_at is not None:
            raise revoked(key_file(self._folder, self.name), found.revoked_at)
        self._registered = True

    def sign(
        self, headers: Mapping[str, Any], body: bytes, *, node: str | None, content_type: str | None, content_encoding: str | None
    ) -> dict[str, Any]:
        """Return the header with the signature of a message; `node` is for whom, where no envelope says so.

        Raises as `register` does, TypeError for headers that are no JSON.
        """
        self.register()
        identity = self._identity
        said = canonical_bytes(headers, body, signer=identity, node=node, content_type=content_type, content_encoding=content_encoding)
        return signature_header(identity, node, self.key.sign(said))

    @cached_property
    def _identity(self) -> str:
        return self.key.public.identity
