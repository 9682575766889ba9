"""A sealed event log, and a superuser who tampers with it behind everybody's back."""

from pathlib import Path

import psycopg

from federation.delivery.relay import Relay
from federation.delivery.sealing import Sealer, key_file, seals_file
from federation.security import seals
from federation.security.signing import load
from federation.services.verification import Kind, Report, verify
from federation.transaction import Transactions, reading


class Log:
    """A log with a seal for each five events, its file, and a superuser who tampers with it."""

    def __init__(self, url: str, service: Transactions, folder: Path) -> None:
        self.url, self.service, self.folder = url, service, folder
        self.relay = Relay(None, service, listen_url="")  # type: ignore[arg-type]  # only numbers here
        self.sealer = Sealer(service, folder=folder, most_events=5)

    def number(self) -> None:
        while self.relay._number():
            pass
        self.relay._number()
        self.relay._number()

    def tamper(self, *statements: str) -> None:
        with psycopg.connect(self.url) as connection:
            # As who owns the machine could: no trigger is heard.
            connection.execute("SET session_replication_role = replica")
            for statement in statements:
                connection.execute(statement)

    def sequence(self, number: int) -> int:
        with psycopg.connect(self.url) as connection:
            return connection.execute("SELECT sequence FROM event_order WHERE number = %s", [number]).fetchone()[0]  # type: ignore[index]

    def verify(self, *, with_file: bool = True) -> Report:
        with reading(self.service.engine) as session:
            filed = seals.read(seals_file(self.folder)) if with_file else None
            return verify(session, load(key_file(self.folder)).public, filed=filed)

    def findings(self, *, with_file: bool = True) -> list[tuple[Kind, int | None]]:
        return [(finding.kind, finding.number) for finding in self.verify(with_file=with_file).findings]
