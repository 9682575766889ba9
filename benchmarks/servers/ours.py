"""The federation's transport and result backend, on ActiveMQ and PostgreSQL, both with each commit on disk."""

import re
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.running import Running
from benchmarks.servers.peer import Peer, Start
from federation.local import jars
from federation.local.activemq import USERS, ActiveMQ
from federation.local.parts import Part
from federation.local.ports import free_port
from federation.local.postgres import DATABASE, OWNER, ROLES, Postgres
from federation.results.tables import create_all, metadata
from federation.settings import settings

NAME = "federation"
SCHEME = "pgnotify+postgresql"
_ROLE = "federation_service"


def starter(name: str, scheme: str) -> Start:
    """Return what starts both servers with the result backend of this scheme."""
    return partial(_start, name=name, scheme=scheme)


@contextmanager
def _start(running: Running, *, name: str, scheme: str) -> Iterator[Peer]:
    # The worker connects as the role that ours stores results with.
    kind = scheme.partition("+")[0]
    distribution = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
    postgres = Postgres(running.folder_of(f"{kind}-postgres"), free_port())
    activemq = ActiveMQ(running.folder_of(f"{kind}-activemq"), free_port(), {user: secrets.token_urlsafe(18) for user in USERS}, distribution)
    with running.part(_named(postgres.part(), kind)), running.part(_named(activemq.part(), kind)) as pid:
        passwords = {role: secrets.token_urlsafe(18) for role in ROLES}
        postgres.ensure_roles(passwords)
        postgres.ensure_database()
        version = _prepare(postgres.url(DATABASE))
        yield Peer(
            name=name,
            broker_url=activemq.url(),
            result_backend=postgres.url(DATABASE, user=_ROLE, password=passwords[_ROLE]).replace("postgresql", scheme, 1),
            versions={"ActiveMQ": _version_of(distribution), "PostgreSQL": version},
            durability="persistent messages with receipts, ActiveMQ syncs its journal before each receipt; results in PostgreSQL, fsync on, "
            "synchronous_commit on",
            broker_pid=pid,
        )


def _named(part: Part, kind: str) -> Part:
    return replace(part, name=f"{kind}-{part.name}")


def _prepare(url: str) -> str:
    create_all(url)
    with psycopg.connect(url, autocommit=True) as connection:
        # Celery's own database backend makes its tables itself.
        connection.execute(sql.SQL("grant create on schema public to {}").format(sql.Identifier(_ROLE)))
        for table in metadata.tables:
            connection.execute(sql.SQL("grant select, insert, update, delete on {} to {}").format(sql.Identifier(table), sql.Identifier(_ROLE)))
            connection.execute(sql.SQL("alter table {} owner to {}").format(sql.Identifier(table), sql.Identifier(OWNER)))
        told = connection.execute("show server_version").fetchone()
    return str(told[0]) if told else "unknown"


def _version_of(distribution: jars.Distribution) -> str:
    named = [Path(entry) for entry in distribution.class_path]
    found = [jar for entry in named for jar in (entry.parent.glob("activemq-broker*.jar") if entry.name == "*" else [entry])]
    jar = next(jar for jar in found if jar.name.startswith("activemq-broker"))
    with zipfile.ZipFile(jar) as archive:
        told = re.search(r"^Implementation-Version: (\S+)", archive.read("META-INF/MANIFEST.MF").decode(), re.MULTILINE)
    return told[1] if told else "unknown"
