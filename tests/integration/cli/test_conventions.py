"""What a script relies on: exit codes, errors on standard error, JSON where asked, no colours in a pipe, no token on a command line."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.security.signing import SigningKey, load
from federation.security.statements import KeyVoice
from federation.services import approvals, signers, statements, tasks
from federation.services.approvals import Decision

COLOUR = re.compile(r"\x1b\[")


def test_nothing_that_runs_is_no_error_to_stop_and_status_3_to_look_at(federation: Callable[..., Any]) -> None:
    assert federation("down").returncode == 0
    assert federation("status").returncode == 3
    told = federation("status", "--json")
    assert told.returncode == 3
    assert json.loads(told.stdout)["running"] is False


def test_doctor_tells_a_script_what_it_found(federation: Callable[..., Any]) -> None:
    done = federation("doctor", "--json", FEDERATION_BROKER_URL="activemq://u:hunter2@nowhere.invalid/")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], done.stderr) == (1, False, "")
    assert [check["check"] for check in told["checks"] if check["verdict"] == "fail"] == ["servers"]


def in_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """Run a command with a terminal for its output, and return what it wrote."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        told = b""
        while True:
            try:
                told += (read := os.read(ours, 4096))
            except OSError:  # the other end is closed
                break
            if not read:
                break
        process.wait()
    os.close(ours)
    return told.decode()


def test_colours_are_for_terminals_that_want_them(surroundings: dict[str, str]) -> None:
    command = [sys.executable, "-m", "federation.cli.main", "doctor"]
    plain = surroundings | {"TERM": "xterm"}
    plain.pop("NO_COLOR", None)
    assert COLOUR.search(in_a_terminal(command, plain))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", in_a_terminal(command, plain | {"NO_COLOR": "1"}))
    piped = subprocess.run(command, env=plain, capture_output=True, text=True, check=False).stdout
    assert not COLOUR.search(piped)
    # A pipe is no terminal of eighty columns: nothing is cut.
    assert "…" not in piped
    assert "all-MiniLM-L6-v2 (embedding)" in piped


@pytest.fixture
def agents(federation: Callable[..., Any], surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> Callable[..., Any]:
    """`federation agent …` on a database where ada, bob, dan and eve exist."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    return lambda *words, **more: federation("agent", *words, **more)


def test_an_agents_life_as_a_script_sees_it(agents: Callable[..., Any]) -> None:
    assert agents("list").stdout == "There is no agent yet. Add one with: federation agent add NAME --role ROLE\n"
    added = agents("add", "nora", "--role", "lead")
    # Standard output is the token and nothing else, so that it can be piped.
    assert re.fullmatch(r"fed_\S+\n", added.stdout)
    assert "It is shown this once" in added.stderr
    assert "fed_" not in added.stderr
    again = agents("add", "nora", "--role", "lead")
    assert (again.returncode, again.stdout) == (1, "")
    assert "federation agent rotate nora" in again.stderr
    rotated = json.loads(agents("rotate", "nora", "--json").stdout)
    assert (rotated["name"], rotated["role"]) == ("nora", "lead")
    [nora] = json.loads(agents("list", "--json").stdout)
    assert (nora["name"], nora["tokens"], nora["keys"]) == ("nora", 1, 0)
    assert json.loads(agents("token", "nora", "--label", "laptop", "--days", "0", "--json").stdout)["token"].startswith("fed_")
    known = json.loads(agents("tokens", "nora", "--json").stdout)
    assert [(one["label"], one["state"], one["expires_at"] is None) for one in known] == [
        ("laptop", "valid", True),
        ("", "valid", False),
        ("", "revoked", False),
    ]
    assert "sha256" not in str(known)
    assert json.loads(agents("revoke", "nora", "--token", known[0]["id"][:13], "--json").stdout) == {"name": "nora", "revoked": 1}
    assert json.loads(agents("revoke", "nora", "--json").stdout) == {"name": "nora", "revoked": 1}


def test_a_rotated_token_lasts_as_long_as_the_one_before_it_unless_told(agents: Callable[..., Any]) -> None:
    def days(*words: str) -> float | None:
        assert agents(*words).returncode == 0
        latest = json.loads(agents("tokens", "nora", "--json").stdout)[0]
        begins, ends = (latest[name] and datetime.fromisoformat(latest[name]) for name in ("created_at", "expires_at"))
        return ends and round((ends - begins) / timedelta(days=1), 3)

    assert days("add", "nora", "--role", "lead", "--label", "laptop", "--days", "7") == 7
    assert days("token", "nora", "--label", "desk", "--days", "0") is None
    assert days("rotate", "nora", "--label", "laptop") == 7
    assert days("rotate", "nora", "--label", "desk") is None
    assert days("rotate", "nora", "--label", "phone") == 365
    assert days("rotate", "nora", "--label", "laptop", "--days", "1") == 1
    assert days("rotate", "nora") == 1


def test_signers_are_listed_and_revoked_as_a_script_sees_it(agents: Callable[..., Any], federation: Callable[..., Any], transactions: Any) -> None:
    assert federation("signer", "list").stdout == "No key is known yet. Each part makes its own when it starts.\n"
    keys = [SigningKey(Ed25519PrivateKey.generate()).public for _ in range(3)]
    for name, key in zip(("node:taichi", "node:taichi", "service:door"), keys, strict=True):
        with transactions.begin(name) as session:
            signers.register(session, name, key)
            signers.register_services(session, name, key.identity)
    listed = json.loads(federation("signer", "list", "--json").stdout)
    assert [one["services"] for one in listed] == [["service:outbox", "service:worker"]] * 2 + [["service:door", "service:outbox"]]
    assert [(one["name"], one["state"], one["created_by"]) for one in listed] == [
        (name, "valid", name) for name in ("node:taichi", "node:taichi", "service:door")
    ]
    one = json.loads(federation("signer", "revoke", keys[0].identity[:16].upper(), "--json").stdout)
    assert one == [{"name": "node:taichi", "identity": keys[0].identity}]
    assert keys[1].identity[:16] in federation("signer", "revoke", "node:taichi").stdout
    again = federation("signer", "revoke", "node:taichi")
    assert (again.returncode, "revoked already" in again.stderr) == (1, True)
    unknown = federation("signer", "revoke", "node:taich")
    assert (unknown.returncode, "nearest: node:taichi" in unknown.stderr) == (1, True)
    assert [row.split()[2] for row in federation("signer", "list").stdout.splitlines()[1:]] == ["revoked", "revoked", "valid"]


def test_keys_of_agents_and_what_is_signed_with_them_as_a_script_sees_it(
    agents: Callable[..., Any], federation: Callable[..., Any], transactions: Any, tmp_path: Any
) -> None:
    own = SigningKey(Ed25519PrivateKey.generate())
    file = tmp_path / "ada.pub.pem"
    file.write_text(own.public.pem)
    assert "`federation mcp` makes one when it starts" in agents("key", "list", "ada").stdout
    added = json.loads(agents("key", "add", "ada", "-", "--json", text=own.public.pem).stdout)
    assert (added["identity"], added["agent"], added["state"]) == (own.public.identity, "ada", "valid")
    others = agents("key", "add", "bob", str(file))
    assert (others.returncode, "is ada's" in others.stderr) == (1, True)
    private = agents("key", "add", "ada", "-", text="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert (private.returncode, "AAAA" in private.stderr, "the public half" in private.stderr) == (2, False, True)
    with transactions.begin("bob") as session:
        for slug in ("gate", "other"):
            tasks.delegate(session, "Restart the cache", slug=slug, requires_approval=True)
    assert federation("task", "approve", "gate").returncode == 0
    contrary = federation("task", "reject", "gate", "--reason", "no")
    assert (contrary.returncode, "both signatures are kept" in contrary.stderr) == (1, True)
    with transactions.begin("ada", voice=KeyVoice(own, "ada")) as session:
        approvals.decide(session, "other", Decision.APPROVE)
    assert "task.decide: signed" in federation("task", "show", "gate").stdout
    shown = json.loads(federation("task", "show", "other", "--json").stdout)
    assert [(one["type"], one["actor"]) for one in shown["stated"]] == [("task.decide: signed", "ada")]
    found = federation("audit", "equivocations", "--json")
    assert (found.returncode, [one["choice"] for one in json.loads(found.stdout)]) == (1, ["approve", "reject"])
    assert json.loads(agents("key", "revoke", "ada", own.public.identity[:10], "--json").stdout)[0]["identity"] == own.public.identity
    assert [row.split()[1] for row in agents("key", "list", "ada").stdout.splitlines()[1:]] == ["revoked"]
    assert agents("key", "add", "ada", str(file)).returncode == 1
    assert agents("key", "add", "ada", "-", text=SigningKey(Ed25519PrivateKey.generate()).public.pem).returncode == 0
    told = agents("key", "revoke", "ada").stdout
    assert "Over HTTP a token of ada makes no other key known; an operator does: federation agent key add ada FILE" in told
    assert "With the database's passwords it makes any known" in told


def test_an_agent_is_added_with_a_key_that_stays_in_its_file(agents: Callable[..., Any], transactions: Any, tmp_path: Any) -> None:
    file = tmp_path / "carol.pem"
    added = json.loads(agents("add", "carol", "--role", "human", "--key", str(file), "--json").stdout)
    key = load(file)
    assert (added["key"], file.stat().st_mode & 0o777) == (key.public.identity, 0o600)
    assert (tmp_path / "carol.pub.pem").read_text() == key.public.pem
    [known] = json.loads(agents("key", "list", "carol", "--json").stdout)
    assert (known["identity"], known["state"], known["public_key"]) == (key.public.identity, "valid", key.public.pem)
    with transactions.begin("carol", voice=KeyVoice(key, "carol")) as session:
        signed = tasks.delegate(session, "Look at it", slug="signed").id
    with transactions.begin("test:hand") as session:
        [told] = statements.about(session, f"task:{signed}")
        assert (told.actor, told.mode) == ("carol", "signed")
    # What cannot be done leaves neither agent nor key.
    for words, says in (
        (("dora", "--key", str(file)), "is carol's; a key speaks for one agent"),
        (("carol", "--key", str(tmp_path / "new.pem")), "agent 'carol' exists already"),
        (("dora", "--key", str(tmp_path)), "--key: got"),
    ):
        refused = agents("add", *words[:1], "--role", "human", *words[1:])
        assert (refused.returncode != 0, refused.stdout, says in refused.stderr) == (True, "", True), refused.stderr
    assert not (tmp_path / "new.pem").exists()
    file.chmod(0o644)
    open_to_all = agents("add", "dora", "--role", "human", "--key", str(file))
    assert (open_to_all.returncode, f"chmod 600 {file}" in open_to_all.stderr) == (2, True)
    assert "dora" not in {row["name"] for row in json.loads(agents("list", "--json").stdout)}


def test_token_comes_by_standard_input_or_the_environment_and_is_the_agents_own(agents: Callable[..., Any]) -> None:
    token = agents("add", "nora", "--role", "lead").stdout.strip()
    piped = agents("config", "nora", "--token", "-", text=token + "\n")
    assert piped.returncode == 0, piped.stderr
    assert f"Bearer {token}" in piped.stdout
    assert "For .mcp.json" in piped.stderr
    assert agents("config", "nora", FEDERATION_TOKEN=token).stdout == piped.stdout
    without = agents("config", "nora")
    assert without.stdout == piped.stdout.replace(token, "TOKEN-OF-nora")
    assert "federation agent rotate nora" in without.stderr
    other = json.loads(agents("add", "tom", "--role", "developer", "--json").stdout)["token"]
    of_another = agents("config", "nora", "--token", "-", text=other)
    assert (of_another.returncode, of_another.stdout) == (1, "")
    assert "this one is tom's, not nora's" in of_another.stderr


def test_token_on_the_command_line_is_refused_and_not_repeated(agents: Callable[..., Any]) -> None:
    done = agents("config", "nora", "--token", "fed_secret")
    assert (done.returncode, done.stdout) == (2, "")
    assert "FEDERATION_TOKEN" in done.stderr
    assert "fed_secret" not in done.stderr
