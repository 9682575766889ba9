"""Servers that do not take us are told with the variable, what it got, and why; real servers, and strangers at their ports."""

import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from federation.errors import BrokerUnavailable, DatabaseUnavailable, SettingsError
from federation.local import checks, elsewhere
from federation.local.ports import free_port
from federation.settings import Settings, load

SECRET = "hunter2"
# Without a network nobody can say that there is no such host.
UNKNOWN_HOST = "not known|name resolution"


def stranger(answer: bytes | None) -> Iterator[int]:
    """Yield the port of a server that is neither: it gives this answer to whatever it is told, or none at all."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            held = []
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is not None:
                    connection.recv(1000)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def web() -> Iterator[int]:
    yield from stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture
def silent() -> Iterator[int]:
    yield from stranger(None)


@pytest.fixture
def closed() -> int:
    return free_port()


@pytest.fixture
def database_port(postgres: Any) -> int | None:
    return urlsplit(postgres.owner_url).port


@pytest.fixture
def told(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[..., str]:
    """A question: what is said of these settings, in one line of an error of this kind?"""

    def ask(kind: type[Exception], check: Callable[[Settings], None], **variables: str) -> str:
        monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
        for name, value in variables.items():
            # A name in braces is that of a fixture, whose value is a port.
            monkeypatch.setenv(name, value.format_map(Ports(request)))
        with pytest.raises(kind) as error:
            check(load())
        assert type(error.value) is kind
        assert SECRET not in str(error.value)
        return str(error.value)

    return ask


class Ports(dict[str, object]):
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __missing__(self, name: str) -> object:
        found = self._request.getfixturevalue(name)
        return getattr(found, "port", found)


@pytest.mark.parametrize(
    ("url", "kind", "reason"),
    [
        ("activemq://federation:hunter2@127.0.0.1:{activemq}/", SettingsError, "password is invalid"),
        ("activemq://federation:hunter2@nowhere.invalid:61613/", SettingsError, UNKNOWN_HOST),
        ("activemq://federation:hunter2@127.0.0.1:{web}/", SettingsError, "does not answer in STOMP"),
        ("activemq://federation:hunter2@127.0.0.1:{closed}/", BrokerUnavailable, "refused"),
        ("activemq://federation:hunter2@127.0.0.1:{silent}/", BrokerUnavailable, "said nothing"),
    ],
    ids=["wrong password", "unknown host", "not a broker", "nobody there", "silence"],
)
def test_broker_that_does_not_take_us(told: Callable[..., str], url: str, kind: type[Exception], reason: str) -> None:
    line = told(kind, elsewhere.check_up, FEDERATION_BROKER_URL=url)
    assert line.startswith("FEDERATION_BROKER_URL: got 'activemq://federation:•••@")
    assert "wants an ActiveMQ" in line
    assert re.search(reason, line)


@pytest.mark.parametrize("variable", ["FEDERATION_DATABASE_URL", "FEDERATION_DATABASE_OWNER_URL", "FEDERATION_DATABASE_SERVICE_URL"])
@pytest.mark.parametrize(
    ("url", "kind", "reason"),
    [
        ("postgresql://federation_app:hunter2@127.0.0.1:{database_port}/postgres", SettingsError, "password authentication failed"),
        ("postgresql://nobody:hunter2@127.0.0.1:{database_port}/postgres", SettingsError, "password authentication failed"),
        ("postgresql://federation_app:hunter2@nowhere.invalid:5432/federation", SettingsError, UNKNOWN_HOST),
        ("postgresql://federation_app:hunter2@127.0.0.1:{web}/federation", SettingsError, "invalid response"),
        ("postgresql://federation_app:hunter2@127.0.0.1:{closed}/federation", DatabaseUnavailable, "refused"),
    ],
    ids=["wrong password", "unknown user", "unknown host", "not a database", "nobody there"],
)
def test_database_that_does_not_take_us(told: Callable[..., str], variable: str, url: str, kind: type[Exception], reason: str) -> None:
    line = told(kind, elsewhere.check_up, **{variable: url})
    assert line.startswith(f"{variable}: got 'postgresql://")
    assert "wants a PostgreSQL" in line
    assert re.search(reason, line)
    assert "\n" not in line


def test_silent_database_is_given_up(told: Callable[..., str]) -> None:
    url = "postgresql://federation_app:hunter2@127.0.0.1:{silent}/federation?connect_timeout=2"
    assert "timeout" in told(DatabaseUnavailable, elsewhere.check_up, FEDERATION_DATABASE_URL=url)


def test_database_without_our_tables_is_named(told: Callable[..., str], postgres: Any) -> None:
    with postgres.database() as url:
        line = told(SettingsError, elsewhere.check_up, FEDERATION_DATABASE_URL=postgres.as_role("federation_app", url))
    assert line.startswith("FEDERATION_DATABASE_URL: got 'postgresql://federation_app:•••@")
    assert "FEDERATION_DATABASE_OWNER_URL" in line


@pytest.fixture
def role(postgres: Any) -> Iterator[Callable[[str], str]]:
    """Makes a role with these words, and returns its name."""
    made = []

    def make(words: str) -> str:
        name = f"somebody_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(postgres.owner_url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}' {words}")
        made.append(name)
        return name

    yield make
    with psycopg.connect(postgres.owner_url, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP ROLE {name}")


def url_as(database: str, name: str) -> str:
    parts = urlsplit(database)
    return f"postgresql://{name}:{SECRET}@127.0.0.1:{parts.port}{parts.path}"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("IN ROLE federation_app SUPERUSER", "is a superuser"),
        ("IN ROLE federation_app BYPASSRLS", "is a role with BYPASSRLS"),
        ("IN ROLE federation_app, federation_service", "is a member of federation_service"),
        ("IN ROLE federation_app, federation_auditor", "is a member of federation_auditor"),
        ("IN ROLE federation_app, federation_owner", "is a member of federation_owner"),
        ("IN ROLE federation_app NOINHERIT", "is no member of federation_app"),
        ("", "is no member of federation_app"),
    ],
)
@pytest.mark.parametrize("migrating", [False, True])
def test_a_role_that_row_level_security_does_not_hold_back_is_refused(
    told: Callable[..., str], role: Callable[[str], str], postgres: Any, template: str, words: str, reason: str, migrating: bool
) -> None:
    with postgres.database(template=template) as database:
        name = role(words)
        variables = {"FEDERATION_DATABASE_URL": url_as(database, name)}
        if migrating:
            variables["FEDERATION_DATABASE_OWNER_URL"] = postgres.as_role("federation_owner", database)
        line = told(SettingsError, elsewhere.check_up, **variables)
        assert "wants the role `federation_app`" in line
        assert f"{name} {reason}" in line
        [finding] = checks.servers(load())
        assert (finding.verdict, finding.saw) == (checks.Verdict.FAIL, line)


def test_a_member_of_the_role_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, role: Callable[[str], str], postgres: Any, template: str
) -> None:
    with postgres.database(template=template) as database:
        monkeypatch.setenv("FEDERATION_DATABASE_URL", url_as(database, role("IN ROLE federation_app")))
        monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
        elsewhere.check_up(load())


def test_database_that_is_to_be_migrated_needs_no_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, postgres: Any) -> None:
    with postgres.database() as url:
        app, owner = (postgres.as_role(f"federation_{role}", url) for role in ("app", "owner"))
        for name, value in {"DATABASE_URL": app, "DATABASE_OWNER_URL": owner, "DATA_DIR": str(tmp_path)}.items():
            monkeypatch.setenv(f"FEDERATION_{name}", value)
        elsewhere.check_up(load())


def test_servers_that_take_us_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, postgres: Any, activemq: Any, database: str) -> None:
    app = postgres.as_role("federation_app", database)
    for name, value in {"DATABASE_URL": app, "BROKER_URL": activemq.url, "DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"FEDERATION_{name}", value)
    elsewhere.check_up(load())
    elsewhere.check_database(load())


def test_local_database_that_does_not_run_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, closed: int) -> None:
    (tmp_path / "secrets.json").write_text('{"roles": {"federation_app": "hunter2"}}')
    (tmp_path / "settings.json").write_text(f'{{"database_url": "postgresql://federation_app:hunter2@127.0.0.1:{closed}/federation"}}')
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
    with pytest.raises(DatabaseUnavailable, match="is not running; start it with: federation up"):
        elsewhere.check_database(load())


def test_all_problems_are_found_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, closed: int) -> None:
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FEDERATION_BROKER_URL", f"activemq://u:{SECRET}@127.0.0.1:{closed}/")
    monkeypatch.setenv("FEDERATION_DATABASE_URL", f"postgresql://u:{SECRET}@127.0.0.1:{closed}/x")
    assert [type(error) for error in elsewhere.problems(load())] == [BrokerUnavailable, DatabaseUnavailable]
