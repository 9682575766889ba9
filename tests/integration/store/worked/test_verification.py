"""Whatever a superuser does to the log shows, and is told by its number: changed, removed, inserted, moved, cut."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from federation.cli.bundle import write
from federation.delivery.sealing import Sealer, WrongKey, key_file, seals_file
from federation.local import checks, children
from federation.security import seals
from federation.security.signing import load, load_or_make, public_file
from federation.services.verification import Finding, Kind, verify
from federation.settings import Settings
from federation.store import event_log
from federation.transaction import Transactions, connect, reading
from tests.integration.sealed_log import Log


@pytest.fixture
def log(postgres: Any, database: str, publisher: Any, tmp_path: Path) -> Iterator[Log]:
    engine = connect(postgres.as_role("federation_service", database))
    made = Log(database, Transactions(engine, publisher), tmp_path / "seals")
    made.number()
    made.sealer.seal()
    yield made
    engine.dispose()


def test_a_log_that_nobody_touched_holds(log: Log) -> None:
    report = log.verify()
    assert report.findings == []
    assert report.events == report.sealed > 50
    assert report.unsealed == 0
    assert report.seals == report.filed == (report.events + 4) // 5
    assert log.findings(with_file=False) == []


def test_what_came_after_the_last_seal_is_counted_and_compared(log: Log, transactions: Transactions) -> None:
    from federation.services import agents

    before = log.verify().events
    with transactions.begin("cli:root") as session:
        agents.rotate(session, "bob")
    log.number()
    report = log.verify()
    assert (report.findings, report.sealed, report.unsealed) == ([], before, 2)
    log.tamper(f"UPDATE events SET actor = 'mallory' WHERE sequence = {log.sequence(before + 1)}")
    assert log.findings() == [(Kind.CHANGED, before + 1)]


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'mallory'",
        "payload = payload || '{\"x\": 1}'",
        "created_at = created_at + interval '1 microsecond'",
        "stream = stream || 'x'",
        "type = 'task.completed'",
        "trace_id = ''",
        "conversation_id = 'x'",
        "session_id = gen_random_uuid()",
        "id = gen_random_uuid()",
    ],
)
def test_a_changed_column_is_found(log: Log, change: str) -> None:
    log.tamper(f"UPDATE events SET {change} WHERE sequence = {log.sequence(33)}")
    assert (Kind.CHANGED, 33) in log.findings()
    assert (Kind.CHANGED, 33) in log.findings(with_file=False)


def test_a_changed_position_is_found_twice(log: Log) -> None:
    log.tamper(f"UPDATE events SET position = position + 100 WHERE sequence = {log.sequence(33)}")
    assert [kind for kind, _ in log.findings()] == [Kind.CHANGED, Kind.INSERTED]


def test_a_removed_event_is_found(log: Log) -> None:
    removed = log.sequence(20)
    log.tamper(f"DELETE FROM events WHERE sequence = {removed}")
    assert (Kind.REMOVED, 20) in log.findings()
    log.tamper(f"DELETE FROM event_order WHERE sequence = {removed}")
    assert (Kind.REMOVED, 20) in log.findings()
    assert (Kind.REMOVED, 20) in log.findings(with_file=False)


def test_an_inserted_event_is_found(log: Log) -> None:
    columns = "type, actor, payload, trace_id"
    insert = f"INSERT INTO events ({columns}, stream, position, sequence) OVERRIDING SYSTEM VALUE SELECT {columns}, 'agent:x', 1"
    log.tamper(f"{insert}, -1 FROM events LIMIT 1")
    [finding] = [finding for finding in log.verify().findings if "past the order" in finding.text]
    assert finding.kind is Kind.INSERTED
    log.tamper("INSERT INTO event_order (number, sequence, leaf) VALUES (0, -1, '')")
    assert (Kind.INSERTED, 0) in log.findings()


def test_an_event_pushed_into_the_order_moves_the_others(log: Log) -> None:
    log.tamper(
        "UPDATE event_order SET number = -number WHERE number >= 30",
        "UPDATE event_order SET number = -number + 1 WHERE number < 0",
        "INSERT INTO event_order (number, sequence, leaf) VALUES (30, -1, '')",
        "INSERT INTO events (type, actor, payload, trace_id, stream, position, sequence) OVERRIDING SYSTEM VALUE "
        "SELECT type, actor, payload, trace_id, 'agent:x', 1, -1 FROM events LIMIT 1",
    )
    found = log.findings()
    assert found[:3] == [(Kind.CHANGED, 30), (Kind.CHANGED, 31), (Kind.MOVED, 32)]


def test_two_events_that_changed_places_are_told_so(log: Log) -> None:
    one, other = log.sequence(31), log.sequence(34)
    log.tamper(
        f"UPDATE event_order SET sequence = -1 WHERE sequence = {one}",
        f"UPDATE event_order SET sequence = {one} WHERE sequence = {other}",
        f"UPDATE event_order SET sequence = {other} WHERE sequence = -1",
    )
    findings = log.verify().findings
    assert [(finding.kind, finding.number) for finding in findings] == [(Kind.MOVED, 31), (Kind.MOVED, 34)]
    assert "was sealed as 34" in findings[0].text


def test_a_tail_that_was_cut_with_its_seals_shows_in_the_file(log: Log) -> None:
    last = log.verify().events
    log.tamper(
        "CREATE TEMP TABLE cut AS SELECT sequence FROM event_order WHERE number > 40",
        "DELETE FROM events WHERE sequence IN (SELECT sequence FROM cut)",
        "DELETE FROM event_order WHERE number > 40",
        "DELETE FROM seals WHERE last > 40",
        "DELETE FROM streams WHERE name NOT IN (SELECT stream FROM events)",
        "UPDATE streams SET position = (SELECT max(position) FROM events WHERE stream = name)",
    )
    assert log.findings(with_file=False) == []
    found = log.findings()
    assert {kind for kind, _ in found} == {Kind.CUT, Kind.REMOVED}
    assert [number for kind, number in found if kind is Kind.REMOVED] == list(range(41, last + 1))


def test_an_unsealed_tail_that_was_cut_shows_in_the_counters(log: Log, transactions: Transactions) -> None:
    from federation.services import agents

    with transactions.begin("cli:root") as session:
        agents.rotate(session, "bob")
    log.number()
    log.tamper("DELETE FROM events WHERE sequence > (SELECT max(sequence) - 1 FROM event_order)")
    assert [finding.kind for finding in log.verify().findings] == [Kind.REMOVED, Kind.CUT]


@pytest.mark.parametrize(
    "change",
    [
        "statement = replace(statement, 'seal', 'sael')",
        "signature = '\\x00'",
        "leaves = leaves || '\\x00'",
        "first = first + 2",
        "last = last + 100",
    ],
)
def test_a_changed_seal_is_found_and_the_file_still_proves_the_rest(log: Log, change: str) -> None:
    log.tamper(f"UPDATE seals SET {change} WHERE number = 5", f"UPDATE events SET actor = 'mallory' WHERE sequence = {log.sequence(33)}")
    report = log.verify()
    assert report.findings[0] == Finding(Kind.SEAL, None, "seal 5 in the database is not the one in the file")
    assert [(finding.kind, finding.number) for finding in report.findings[1:]] == [(Kind.CHANGED, 33)]
    alone = log.verify(with_file=False).findings
    assert alone[0].text.startswith("seal 5 in the database: ")
    assert alone[1].text == "no seal 5 holds, so only what is up to event 20 is proven"


def test_a_changed_file_is_told_and_the_database_still_proves(log: Log) -> None:
    path = seals_file(log.folder)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3] + lines[4:]))
    kinds = {finding.text for finding in log.verify().findings}
    assert "seal 4 in the database is not the one in the file" in {text.replace("seal 5", "seal 4") for text in kinds}


def test_a_copy_of_the_file_that_is_older_than_the_database_verifies_it(log: Log) -> None:
    path = seals_file(log.folder)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))
    report = log.verify()
    assert (report.findings, report.seals, report.filed, report.sealed) == ([], len(lines), len(lines) - 3, report.events)
    log.tamper(f"UPDATE events SET actor = 'mallory' WHERE sequence = {log.sequence(report.events)}")
    assert log.findings() == [(Kind.CHANGED, report.events)]


def test_another_key_or_none_seals_nothing_where_one_has_sealed(log: Log, transactions: Transactions, tmp_path: Path) -> None:
    from federation.services import agents

    with transactions.begin("cli:root") as session:
        agents.rotate(session, "bob")
    log.number()
    elsewhere = Sealer(log.service, folder=tmp_path / "elsewhere")
    with pytest.raises(WrongKey, match="is not there, and key"):
        elsewhere.seal()
    load_or_make(key_file(tmp_path / "elsewhere"))
    with pytest.raises(WrongKey, match="all beats need one folder of seals"):
        elsewhere.seal()
    assert log.verify().unsealed == 2
    public_file(key_file(log.folder)).unlink()
    log.sealer.seal()
    assert log.verify().unsealed == 0
    assert public_file(key_file(log.folder)).exists()


def test_seals_of_another_key_prove_nothing(log: Log, tmp_path: Path) -> None:
    other = load_or_make(tmp_path / "other.pem").public
    with reading(log.service.engine) as session:
        report = verify(session, other, filed=seals.read(seals_file(log.folder)))
    assert report.sealed == 0
    assert report.findings[-1].text == "no seal 1 holds, so nothing is proven"


def test_a_hole_in_the_order_stops_the_sealing(log: Log, transactions: Transactions) -> None:
    from federation.services import agents
    from federation.services.seals import OrderBroken

    with transactions.begin("cli:root") as session:
        agents.rotate(session, "bob")
    log.number()
    last = log.verify().sealed
    log.tamper(f"DELETE FROM event_order WHERE number = {last + 1}")
    with pytest.raises(OrderBroken, match=f"hole after number {last}"):
        log.sealer.seal()


def test_seals_that_a_crash_kept_from_the_file_are_written_down_later(log: Log) -> None:
    path = seals_file(log.folder)
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) // 2, 0):
        path.write_bytes(whole[:cut])
        log.sealer.seal()
        assert path.read_bytes() == whole


def test_each_flipped_row_is_found(log: Log) -> None:
    """A sample of the rows; `make faults` flips each of ten thousand."""
    for number in range(1, log.verify().events + 1, 7):
        sequence = log.sequence(number)
        was = f"created_at = created_at + interval '1 hour' WHERE sequence = {sequence}"
        log.tamper(f"UPDATE events SET {was}")
        assert log.findings() == [(Kind.CHANGED, number)]
        log.tamper(f"UPDATE events SET {was.replace('+', '-')}")
    assert log.findings() == []


def test_doctor_tells_of_events_that_nobody_seals(log: Log, transactions: Transactions) -> None:
    from federation.services import agents

    config = Settings(
        database_service_url=SecretStr(log.service.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")), seal_s=0.01
    )
    [told] = checks.audit_log(config)
    assert (told.verdict, told.saw) == ("ok", "sealed")
    with transactions.begin("cli:root") as session:
        agents.rotate(session, "bob")

    def late() -> bool:
        [told] = checks.audit_log(config)
        return told.verdict == "warn" and "is not sealed yet" in told.saw and "beat.log" in told.remedy

    assert children.wait_until(late, 60)
    log.number()
    log.sealer.seal()
    [told] = checks.audit_log(config)
    assert told.verdict == "ok"


def test_a_restored_database_goes_on_behind_the_last_seal_that_it_has(log: Log, transactions: Transactions, postgres: Any) -> None:
    from federation.services import agents

    def more(opened: Transactions) -> None:
        with opened.begin("cli:root") as session:
            agents.rotate(session, "bob")

    with postgres.database(template=log.url.rpartition("/")[2]) as url:
        more(transactions)
        log.number()
        log.sealer.seal()
        engine = connect(postgres.as_role("federation_service", url))
        restored = Log(url, Transactions(engine, None), log.folder)  # type: ignore[arg-type]  # nothing is sent
        report = restored.verify()
        assert {finding.kind for finding in report.findings} == {Kind.CUT, Kind.REMOVED}
        path = seals_file(log.folder)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[: report.seals]))
        assert restored.findings() == []
        more(restored.service)
        restored.number()
        restored.sealer.seal()
        report = restored.verify()
        assert (report.findings, report.seals, report.unsealed) == ([], report.filed, 0)
        engine.dispose()


# What is done to a row, and what undoes it.
FLIPS = (
    ("created_at = created_at + interval '1 microsecond'", "created_at = created_at - interval '1 microsecond'"),
    ("actor = actor || '!'", "actor = rtrim(actor, '!')"),
    ("payload = payload || '{\"flipped\": true}'", "payload = payload - 'flipped'"),
    ("stream = stream || '!'", "stream = rtrim(stream, '!')"),
    ("trace_id = trace_id || '!'", "trace_id = rtrim(trace_id, '!')"),
)
ROWS, AT_ONCE = 10_000, 50


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.fault("each of 10,000 events changed")
def test_each_of_ten_thousand_flipped_rows_is_found(log: Log, transactions: Transactions, toll: Any) -> None:
    """Fifty at a time, each in one of its columns; what verification names are these fifty and no others."""
    for _ in range(ROWS // 500):
        with transactions.begin("test:hands") as session:
            for number in range(500):
                event_log.append(session, "tests.written", f"tests:{number % 7}", payload={"number": number})
    log.number()
    log.sealer = Sealer(log.service, folder=log.folder, most_events=500)
    log.sealer.seal()
    events = log.verify().events
    assert events >= ROWS
    with psycopg.connect(log.url) as connection:
        sequences = dict(connection.execute("SELECT number, sequence FROM event_order").fetchall())
    missed = 0
    for first in range(1, events + 1, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, events + 1))
        for undo in (0, 1):
            log.tamper(*(f"UPDATE events SET {FLIPS[number % len(FLIPS)][undo]} WHERE sequence = {sequences[number]}" for number in numbers))
            if not undo:
                found = {number for kind, number in log.findings(with_file=False) if kind is Kind.CHANGED}
                missed += len(set(numbers) - found)
                assert found <= set(numbers)
    toll.happened(events, work=events, lost=missed)
    assert missed == 0
    assert log.findings() == []


def test_a_changed_statement_is_found_with_and_without_its_event(log: Log) -> None:
    log.tamper("UPDATE statements SET choice = 'reject' WHERE action = 'task.decide'")
    [finding] = log.verify().findings
    assert (finding.kind, "says choice 'approve', and stands as 'reject'" in finding.text) == (Kind.STATEMENT, True)
    stolen = "UPDATE agent_keys SET agent = 'bob' WHERE agent = 'ada' AND revoked_at IS NOT NULL"
    log.tamper("UPDATE statements SET choice = 'approve' WHERE action = 'task.decide'", stolen)
    [finding] = log.verify().findings
    assert (finding.kind, "which is not ada's" in finding.text) == (Kind.STATEMENT, True)


def test_a_stranger_finds_the_statements_in_a_bundle_and_that_they_hold(log: Log, tmp_path: Path) -> None:
    with reading(log.service.engine) as session:
        write(session, tmp_path / "bundle", load(key_file(log.folder)).public, seals.read(seals_file(log.folder)), progress=lambda done, total: None)
    verified = subprocess.run([sys.executable, "verify.py", "--statements"], cwd=tmp_path / "bundle", capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "task.decide: approve by ada, signed\n" in verified.stdout
    claimed = ("claim.take: take", "claim.release: release", "task.claim: claim", "task.release: release")
    for action in ("message.send: send", *claimed, "task.cancel: cancel"):
        assert f"{action} by dan, signed\n" in verified.stdout
    # Ada designates with a new task and hands it on; what was handed out without a voice is as in a log of before.
    for action, who, times in (("task.delegate: delegate", "dan", 2), ("task.delegate: delegate", "ada", 2), ("role.assign: assign", "ada", 2)):
        assert verified.stdout.count(f"{action} by {who}, signed\n") == times
    assert "Statements: 17 signed by their authors, 0 attested for them.\nNot stated by those who handed them out" in verified.stdout
    # Who reads no further, as `head` does, gets no trace of Python's.
    unread, written = os.pipe()
    os.close(unread)
    left = subprocess.run(
        [sys.executable, "verify.py", "--statements"], cwd=tmp_path / "bundle", stdout=written, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(written)
    assert (left.returncode, left.stderr) == (2, "")
    lines = (tmp_path / "bundle" / "events.jsonl").read_text()
    assert lines.count('"description": "Build it"') == 1
    (tmp_path / "bundle" / "events.jsonl").write_text(lines.replace('"description": "Build it"', '"description": "Break it"'))
    altered = subprocess.run([sys.executable, "verify.py"], cwd=tmp_path / "bundle", capture_output=True, text=True, check=False)
    # With the task, the role that it was to give is not what was stated.
    flaws = ("is not what was sealed\n", "it is not what ada stated\n", "2 flaws.\n")
    assert (altered.returncode, [flaw in altered.stdout for flaw in flaws]) == (1, [True] * 3)
    assert re.search(r":bob with reject \(event \d+\) and approve \(event \d+\)\.\n", verified.stdout)
