"""Passwords and ports of the local services: made at the first start, kept in `<data_dir>/secrets.json`, told to the program in `settings.json`."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from federation.errors import NotFound
from federation.local import activemq, postgres
from federation.local.certificates import Certificates
from federation.local.home import Home, read_json, write_json
from federation.local.ports import keep_or_choose

_DATABASE_KEYS = {
    "database_url": "federation_app",
    "database_owner_url": postgres.OWNER,
    "database_service_url": "federation_service",
    "database_auditor_url": "federation_auditor",
}

FLOWER = "flower"


@dataclass(frozen=True, slots=True)
class Login:
    """A user of one of the services, and who has his password."""

    name: str
    service: str
    used_by: str


LOGINS = (
    Login(postgres.OWNER, "PostgreSQL", "migrations, at each start"),
    Login("federation_app", "PostgreSQL", "the front door and nodes of this machine, for what they do in an agent's name"),
    Login("federation_service", "PostgreSQL", "the program's services and nodes of this machine, for what they do in their own"),
    Login("federation_auditor", "PostgreSQL", "auditors, who only read"),
    Login(activemq.ADMIN, "ActiveMQ", "nobody; for whoever mends the broker by hand"),
    Login(activemq.WORKER, "ActiveMQ", "nodes of this machine; others have their own: `federation node add`"),
    Login(activemq.DOOR, "ActiveMQ", "the front door"),
    Login(activemq.STOMP, "ActiveMQ", "the STOMP door, for all agents that speak STOMP"),
    Login(activemq.RELAY, "ActiveMQ", "beat"),
    Login(activemq.OBSERVER, "ActiveMQ", "Flower"),
    Login(activemq.OPERATOR, "ActiveMQ", "whoever uses the command line here"),
    Login(FLOWER, "Flower", "operators in a browser"),
)


@dataclass(frozen=True)
class Credentials:
    """One password for each role and user, those of nodes at the broker, and the ports last used."""

    roles: Mapping[str, str]
    users: Mapping[str, str]
    nodes: Mapping[str, str]
    flower: str
    postgres_port: int
    activemq_port: int
    mcp_port: int = 0
    flower_port: int = 0
    stomp_port: int = 0

    def owns(self, url: str) -> bool:
        """Say whether the URL leads to a service of ours, which is so when one of our passwords is in it."""
        return any(f":{password}@" in url for password in (*self.roles.values(), *self.users.values()))

    def database_urls(self, certificates: Certificates | None = None) -> dict[str, str]:
        """Return the settings that lead to the local PostgreSQL, one URL a role."""
        return {
            key: postgres.url(self.postgres_port, role, self.roles[role], postgres.DATABASE, certificates) for key, role in _DATABASE_KEYS.items()
        }

    def broker_url(self, user: str = activemq.OPERATOR, certificates: Certificates | None = None) -> str:
        """Return the URL of the local ActiveMQ for one of its users; who sits at this machine is its operator."""
        return activemq.url(self.activemq_port, user, self.users[user], certificates)


def new_password() -> str:
    """Return a password that nobody can guess and any URL may hold."""
    return secrets.token_urlsafe(24)


def load_or_make(home: Home) -> Credentials:
    """Return the credentials of this data directory, making what is missing; nothing is written."""
    known = read_json(home.secrets_file)
    return Credentials(
        roles={role: new_password() for role in postgres.ROLES} | known.get("roles", {}),
        users={user: new_password() for user in activemq.USERS} | known.get("users", {}),
        nodes=known.get("nodes", {}),
        flower=known.get("flower") or new_password(),
        postgres_port=known.get("postgres_port") or 0,
        activemq_port=known.get("activemq_port") or 0,
        mcp_port=known.get("mcp_port") or 0,
        flower_port=known.get("flower_port") or 0,
        stomp_port=known.get("stomp_port") or 0,
    )


def let_node_in(home: Home, node: str) -> str:
    """Give a node another password at the broker, or its first one, and return it; the broker knows it from its next start on."""
    known = read_json(home.secrets_file)
    password = new_password()
    write_json(home.secrets_file, known | {"nodes": known.get("nodes", {}) | {node: password}})
    return password


def shut_node_out(home: Home, node: str) -> None:
    """Forget the password of a node; the broker forgets it at its next start."""
    known = read_json(home.secrets_file)
    if node in known.get("nodes", {}):
        write_json(home.secrets_file, known | {"nodes": {name: password for name, password in known["nodes"].items() if name != node}})


def rotate(home: Home, names: Sequence[str]) -> list[str]:
    """Give each of these logins another password, and return their names; services take the new ones when they start. Raises NotFound."""
    known = [login.name for login in LOGINS]
    for name in names:
        if name not in known:
            raise NotFound("user", name, known)
    before = load_or_make(home)
    fresh = {name: new_password() for name in known if name in names}
    after = replace(
        before,
        roles={role: fresh.get(role, password) for role, password in before.roles.items()},
        users={user: fresh.get(user, password) for user, password in before.users.items()},
        flower=fresh.get(FLOWER, before.flower),
    )
    # First what leads to our services with a password of before: were it left, it would pass for somebody else's server.
    content = {key: value for key, value in read_json(home.settings_file).items() if not (isinstance(value, str) and before.owns(value))}
    write_json(home.settings_file, content | {"flower_password": after.flower})
    write_json(home.secrets_file, asdict(after))
    return list(fresh)


def with_free_ports(credentials: Credentials) -> Credentials:
    """Return them with the ports of before where these are still free."""
    return replace(
        credentials,
        postgres_port=keep_or_choose(credentials.postgres_port or None),
        activemq_port=keep_or_choose(credentials.activemq_port or None),
    )


def save(
    home: Home,
    credentials: Credentials,
    *,
    local_broker: bool,
    local_database: bool,
    others: Mapping[str, Any],
    certificates: Certificates | None = None,
) -> None:
    """Write the secrets, then the settings that follow from them; settings of other origin stay as they are."""
    write_json(home.secrets_file, asdict(credentials))
    content = {key: value for key, value in read_json(home.settings_file).items() if not (isinstance(value, str) and credentials.owns(value))}
    if local_broker:
        # The parts get theirs in their environment, each its own.
        for key, user in (("broker_url", activemq.OPERATOR), ("broker_observer_url", activemq.OBSERVER)):
            content[key] = credentials.broker_url(user, certificates)
    if local_database:
        content |= credentials.database_urls(certificates)
    write_json(home.settings_file, content | {"flower_password": credentials.flower} | dict(others))
