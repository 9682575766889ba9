"""`federation audit` as a script calls it: which exit code tells that the log was tampered with, and what is said then."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from federation.delivery.sealing import key_file, seals_file
from federation.local.ports import LOOPBACK, free_port
from federation.security.signing import public_file
from federation.services import messages
from federation.transaction import Transactions
from tests.integration.sealed_log import Log

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HOLDS = "Nothing was changed, removed, inserted or moved."


@pytest.fixture
def log(surroundings: dict[str, str], data_dir: Path, postgres: Any, database: str, transactions: Any, publisher: Any) -> Log:
    """A log whose seals are where beat keeps them; the shell reads the database as the auditor."""
    surroundings["FEDERATION_DATABASE_AUDITOR_URL"] = postgres.as_role("federation_auditor", database)
    with transactions.begin("ada") as session:
        for number in range(20):
            messages.send(session, f"Finding {number}")
    made = Log(database, Transactions(transactions.service, publisher), data_dir / "seals")
    made.number()
    made.sealer.seal()
    return made


def findings(verified: "subprocess.CompletedProcess[str]") -> list[tuple[str, int | None]]:
    told = json.loads(verified.stdout)
    assert told["ok"] == (not told["findings"])
    return [(finding["kind"], finding["number"]) for finding in told["findings"]]


def test_a_log_that_nobody_touched_is_verified_with_zero(federation: Run, log: Log) -> None:
    events = log.verify().events
    verified = federation("audit", "verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert HOLDS in verified.stdout
    assert f"{events} events, {events} of them under" in verified.stdout
    as_json = federation("audit", "verify", "--json")
    assert (as_json.returncode, findings(as_json)) == (0, [])


@pytest.mark.tampers
@pytest.mark.parametrize(
    ("tampering", "kind"),
    [
        ("UPDATE events SET payload = payload || '{{\"x\": 1}}' WHERE sequence = {sequence}", "changed"),
        ("DELETE FROM events WHERE sequence = {sequence}", "removed"),
    ],
)
def test_who_tampers_with_an_event_is_told_by_one_and_by_its_number(federation: Run, log: Log, tampering: str, kind: str) -> None:
    log.tamper(tampering.format(sequence=log.sequence(13)))
    verified = federation("audit", "verify")
    assert (verified.returncode, verified.stderr) == (1, "")
    assert HOLDS not in verified.stdout
    assert any({kind, "13"} <= set(line.replace("│", " ").split()) for line in verified.stdout.splitlines()), verified.stdout
    as_json = federation("audit", "verify", "--json", "--database-only")
    assert as_json.returncode == 1
    assert (kind, 13) in findings(as_json)


def test_a_tail_that_was_cut_with_its_seals_is_told_by_the_file_alone(federation: Run, log: Log) -> None:
    last = log.verify().events
    log.tamper(
        "DELETE FROM events WHERE sequence IN (SELECT sequence FROM event_order WHERE number > 10)",
        "DELETE FROM event_order WHERE number > 10",
        "DELETE FROM seals WHERE last > 10",
        "DELETE FROM streams WHERE name NOT IN (SELECT stream FROM events)",
        "UPDATE streams SET position = (SELECT max(position) FROM events WHERE stream = name)",
    )
    verified = federation("audit", "verify", "--json")
    assert verified.returncode == 1
    assert {number for kind, number in findings(verified) if kind == "removed"} == set(range(11, last + 1))
    # As its help says; whoever has no copy of the file outside must not take this for proof.
    assert federation("audit", "verify", "--database-only").returncode == 0


def test_a_copy_of_the_file_and_the_key_elsewhere_is_what_counts(federation: Run, log: Log, tmp_path: Path) -> None:
    for file in (seals_file(log.folder), public_file(key_file(log.folder))):
        shutil.copy(file, tmp_path)
    copies = ("--seals", str(tmp_path / "seals.jsonl"), "--key", str(tmp_path / public_file(key_file(log.folder)).name))
    assert federation("audit", "verify", *copies).returncode == 0
    log.tamper("UPDATE seals SET signature = '\\x00' WHERE number = 2")
    seals_file(log.folder).write_text("")
    verified = federation("audit", "verify", *copies)
    assert verified.returncode == 1
    assert "seal 2 in the database is not the one in the file" in " ".join(verified.stdout.replace("│", " ").split())


def test_what_keeps_it_from_looking_is_no_finding(federation: Run, log: Log) -> None:
    away = f"postgresql://nobody:nothing@{LOOPBACK}:{free_port()}/none"
    nobody_there = federation("audit", "verify", FEDERATION_DATABASE_AUDITOR_URL=away)
    assert (nobody_there.returncode, nobody_there.stdout) == (69, "")
    seals_file(log.folder).unlink()
    no_file = federation("audit", "verify")
    assert (no_file.returncode, no_file.stdout) == (2, "")
    assert "name the file of seals with --seals" in no_file.stderr
    public_file(key_file(log.folder)).unlink()
    no_key = federation("audit", "verify", "--database-only")
    assert (no_key.returncode, no_key.stdout) == (2, "")
    assert "wait for the first seal, or give --key" in no_key.stderr


def test_a_bundle_tells_a_stranger_by_one_what_was_changed_in_it(federation: Run, log: Log, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    exported = federation("audit", "export", str(bundle), "--json")
    assert (exported.returncode, json.loads(exported.stdout)["events"]) == (0, log.verify().sealed)

    def verified() -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "verify.py"], cwd=bundle, capture_output=True, text=True, check=False)

    assert verified().returncode == 0
    events = bundle / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    lines[12] = lines[12].replace('"actor": "', '"actor": "x', 1)
    events.write_text("".join(lines))
    told = verified()
    assert told.returncode == 1
    assert told.stdout.startswith("event 13 is not what was sealed\n")


def test_nothing_is_exported_of_a_log_in_which_an_event_is_missing(federation: Run, log: Log, tmp_path: Path) -> None:
    log.tamper(f"DELETE FROM events WHERE sequence = {log.sequence(13)}")
    refused = federation("audit", "export", str(tmp_path / "bundle"))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "`federation audit verify` says which" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_replayed_state_hash_equals_the_live_one(federation: Run, log: Log) -> None:
    def hashes() -> tuple[str, str]:
        told = json.loads(federation("audit", "replay", "--json").stdout)
        return told["replayed_sha256"], told["stored_sha256"]

    replayed, stored = hashes()
    assert replayed == stored == hashes()[0]
    assert federation("audit", "replay").stdout.count(stored) == 2
    # What the events do not tell of changes the one alone, in each way in which a table can diverge.
    for tampered in (
        "UPDATE agents SET role = 'lead' WHERE name = 'bob'",
        "DELETE FROM agents WHERE name = 'eve'",
        "INSERT INTO agents (name, role, created_by) VALUES ('zoe', 'lead', 'nobody')",
    ):
        log.tamper(tampered)
        assert hashes()[0] == replayed
        assert hashes()[1] not in {replayed, stored}
        stored = hashes()[1]


def test_tables_that_the_events_do_not_make_are_told_by_one_with_row_and_column(federation: Run, log: Log) -> None:
    agrees = federation("audit", "replay")
    assert (agrees.returncode, agrees.stderr) == (0, "")
    assert "The tables hold what the events make of them." in agrees.stdout
    log.tamper("UPDATE agents SET role = 'lead' WHERE name = 'bob'", "DELETE FROM agents WHERE name = 'eve'")
    differs = federation("audit", "replay", "--json")
    told = json.loads(differs.stdout)
    assert (differs.returncode, told["ok"]) == (1, False)
    assert [(each["table"], each["key"], each["column"]) for each in told["differences"]] == [("agents", "bob", "role"), ("agents", "eve", None)]
    assert "2 differences." in federation("audit", "replay").stdout
