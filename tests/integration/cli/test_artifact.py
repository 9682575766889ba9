"""Files that are shared at the command line: exit codes, JSON, digests, and what is left of a command that was killed."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from federation.services import agents, messages
from federation.store import turns
from federation.transaction import Transactions
from tests import forks
from tests.integration.cli.test_conventions import in_a_terminal
from tests.integration.world import until

ROOM = "project-123"


@pytest.fixture
def tokens(surroundings: dict[str, str], postgres: Any, activemq: Any, database: str, transactions: Transactions) -> dict[str, str]:
    """Tokens of ada and bob, who have a conversation, and of dan, who is a stranger."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    with transactions.begin("ada") as session:
        messages.send(session, "Here", to="bob", conversation_id=ROOM)
    with transactions.begin("test:setup") as session:
        return {name: agents.issue_token(session, name) for name in ("ada", "bob", "dan")}


@pytest.fixture
def artifact(federation: Callable[..., Any], tokens: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Runs `federation artifact …` as somebody, in this test's folder."""
    return lambda who, *words, **more: federation("artifact", *words, folder=tmp_path, FEDERATION_TOKEN=tokens[who], **more)


def told(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stored(data_dir: Path) -> list[Path]:
    return [path for path in (data_dir / "artifacts").rglob("*") if path.is_file()]


CONTENTS = {"text.md": "Grüße, 世界\r\n".encode(), "empty": b"", "bytes.bin": bytes(range(256)), "5 MB, ö.pdf": os.urandom(5_000_000)}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_comes_back_as_it_was_with_its_digest(artifact: Callable[..., Any], tmp_path: Path, data_dir: Path, name: str) -> None:
    content, digest = CONTENTS[name], hashlib.sha256(CONTENTS[name]).hexdigest()
    (tmp_path / name).write_bytes(content)
    put = artifact("ada", "put", ROOM, name, "--kind", "code")
    assert (put.returncode, put.stdout) == (0, f"{name} is version 1 in {ROOM}: {len(content)} bytes, SHA-256 {digest}\n")
    assert told(artifact("ada", "put", ROOM, name, "--kind", "code", "--json"))["version"] == 1
    assert [path.name for path in stored(data_dir)] == [digest]
    (tmp_path / name).unlink()
    got = artifact("bob", "get", ROOM, name)
    assert (got.returncode, got.stdout) == (0, f"Version 1 of {name} is in {name}: {len(content)} bytes, SHA-256 {digest}\n")
    assert (tmp_path / name).read_bytes() == content
    there = artifact("bob", "get", ROOM, name)
    assert (there.returncode, "a file that is not there yet, or --force" in there.stderr) == (2, True)
    assert artifact("bob", "get", ROOM, name, "--force").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_an_old_version_conflicts(artifact: Callable[..., Any], tmp_path: Path) -> None:
    for version, (who, content) in enumerate((("ada", "one"), ("bob", "two"))):
        (tmp_path / "plan.md").write_text(content)
        assert told(artifact(who, "put", ROOM, "plan.md", "--expected-version", str(version), "--json"))["version"] == version + 1
    (tmp_path / "plan.md").write_text("uno")
    refused = artifact("ada", "put", ROOM, "plan.md", "--expected-version", "1")
    assert (refused.returncode, "is at version 2 by now, put by bob, and not at 1 as you expect" in refused.stderr) == (1, True)
    assert told(artifact("ada", "put", ROOM, "plan.md", "--expected-version", "2", "--json"))["version"] == 3
    assert artifact("ada", "put", ROOM, "plan.md", "--expected-version", "-1").returncode == 2


def test_a_file_that_appears_meanwhile_stays_as_it_is(artifact: Callable[..., Any], tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "plan.md").write_bytes(b"the plan")
    told(artifact("ada", "put", ROOM, "plan.md", "--json"))
    (tmp_path / "plan.md").unlink()
    [content] = stored(data_dir)
    content.unlink()
    os.mkfifo(content)
    with ThreadPoolExecutor() as threads:
        got = threads.submit(artifact, "bob", "get", ROOM, "plan.md")
        # It is open for writing when the command reads, which has then seen that there is no such file.
        with content.open("wb") as pipe:
            (tmp_path / "plan.md").write_bytes(b"somebody's own")
            pipe.write(b"the plan")
    assert (got.result().returncode, "one has appeared meanwhile" in got.result().stderr) == (2, True)
    assert (tmp_path / "plan.md").read_bytes() == b"somebody's own"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.md"]


def test_what_is_shared_is_listed_as_a_bundle(artifact: Callable[..., Any], tmp_path: Path) -> None:
    assert artifact("ada", "list", ROOM).stdout == f"Nothing is shared in {ROOM}.\n"
    for kind in ("tests", "design", "other"):
        (tmp_path / "file").write_text(kind)
        assert artifact("ada", "put", ROOM, "file", "--name", f"{kind}/a.md", "--kind", kind, "--type", "text/x-own").returncode == 0
    listed = told(artifact("bob", "list", ROOM, "--json"))
    assert [(kind, [one["name"] for one in found]) for kind, found in listed.items()] == [
        ("design", ["design/a.md"]),
        ("code", []),
        ("review", []),
        ("tests", ["tests/a.md"]),
        ("other", ["other/a.md"]),
    ]
    assert (listed["tests"][0]["media_type"], listed["tests"][0]["created_by"]) == ("text/x-own", "ada")
    rows = [line.split()[:3] for line in artifact("bob", "list", ROOM).stdout.splitlines()]
    assert rows == [["kind", "name", "version"], ["design", "design/a.md", "1"], ["tests", "tests/a.md", "1"], ["other", "other/a.md", "1"]]
    page = artifact("bob", "list", ROOM, "--limit", "1")
    assert "There are more: --after 'design/a.md'" in page.stderr
    # What it is called there may lead into folders; it is written here.
    assert artifact("bob", "get", ROOM, "tests/a.md").returncode == 0
    assert (tmp_path / "a.md").read_text() == "tests"


def test_who_may_not_and_what_is_not_there_is_told_with_an_exit_code(
    artifact: Callable[..., Any], federation: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "plan.md").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    assert artifact("ada", "put", ROOM, "plan.md").returncode == 0
    for who, words, code, says in (
        ("dan", ("put", ROOM, "plan.md"), 1, f"no conversation '{ROOM}'"),
        ("dan", ("get", ROOM, "plan.md", "--to", "x"), 1, f"no conversation '{ROOM}'"),
        ("dan", ("list", ROOM), 1, f"no conversation '{ROOM}'"),
        ("bob", ("get", ROOM, "plam.md", "--to", "x"), 1, "nearest: plan.md"),
        ("bob", ("get", ROOM, "plan.md", "--version", "2", "--to", "x"), 2, "version: got 2, wants 1 to 1"),
        ("bob", ("get", ROOM, "plan.md", "--to", "no/where"), 2, "a file that can be written (No such file or directory)"),
        ("bob", ("get", ROOM, "plan.md", "--to", "plan.md/x"), 2, "a file that can be written (Not a directory)"),
        ("ada", ("put", ROOM, "none"), 2, "a file that can be read (No such file or directory)"),
        ("ada", ("put", ROOM, "."), 2, "FILE: got '.', wants a plain file"),
        ("ada", ("put", ROOM, "pipe"), 2, "FILE: got 'pipe', wants a plain file"),
        ("ada", ("put", ROOM, "plan.md", "--name", "../x"), 2, "name: got '../x'"),
    ):
        done = artifact(who, *words)
        assert (done.returncode, done.stdout) == (code, ""), (words, done.stderr)
        assert says in done.stderr
    large = artifact("ada", "put", ROOM, "plan.md", "--name", "large", FEDERATION_ARTIFACT_BYTES="0", FEDERATION_ARTIFACT_BYTES_PER_DAY="1")
    assert (large.returncode, "FEDERATION_ARTIFACT_BYTES_PER_DAY" in large.stderr) == (1, True)
    full = artifact("ada", "put", ROOM, "plan.md", "--name", "full", FEDERATION_ARTIFACTS_DIR=str(tmp_path / "unmounted"))
    assert (full.returncode, "FEDERATION_ARTIFACTS_DIR names a folder that is not there" in full.stderr) == (69, True)
    nobody = federation("artifact", "list", ROOM)
    assert (nobody.returncode, "FEDERATION_TOKEN is not set" in nobody.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "plan.md"]


def test_an_altered_file_is_not_written_and_doctor_says_what_is_missing(
    artifact: Callable[..., Any], federation: Callable[..., Any], tmp_path: Path, data_dir: Path
) -> None:
    def doctor(**more: str) -> list[tuple[str, str]]:
        checks = json.loads(federation("doctor", "--json", **more).stdout)["checks"]
        return [(check["verdict"], check["saw"]) for check in checks if check["check"] == "artifacts"]

    assert doctor() == []
    (tmp_path / "plan.md").write_text("true")
    digest = told(artifact("ada", "put", ROOM, "plan.md", "--json"))["sha256"]
    assert doctor() == [("ok", str(data_dir / "artifacts"))]
    [file] = stored(data_dir)
    file.write_text("fake")
    refused = artifact("bob", "get", ROOM, "plan.md", "--to", "got.md")
    assert (refused.returncode, digest in refused.stderr, hashlib.sha256(b"fake").hexdigest() in refused.stderr) == (1, True, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.md"]
    file.write_text("longer")
    assert [(verdict, digest in saw) for verdict, saw in doctor()] == [("fail", True)]
    assert artifact("ada", "put", ROOM, "plan.md").returncode == 0
    (data_dir / "artifacts").chmod(0o750)
    assert [verdict for verdict, _ in doctor()] == ["warn"]
    assert [verdict for verdict, _ in doctor(FEDERATION_ARTIFACTS_DIR=str(tmp_path / "unmounted"))] == ["fail"]
    # A machine that has no such folder may need none.
    assert [verdict for verdict, _ in doctor(FEDERATION_DATA_DIR=str(tmp_path))] == ["warn"]


def test_a_large_file_shows_how_far_it_is_in_a_terminal_alone(
    artifact: Callable[..., Any], surroundings: dict[str, str], tokens: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(2**24)
    command = [sys.executable, "-m", "federation.cli.main", "artifact", "put", ROOM, str(file)]
    shown = in_a_terminal(command, surroundings | {"TERM": "xterm", "FEDERATION_TOKEN": tokens["ada"]})
    assert "16.8/16.8 MB" in shown
    assert "large is version 1" in shown
    piped = artifact("bob", "get", ROOM, "large", "--to", "got")
    assert (piped.returncode, piped.stderr) == (0, "")


def test_killed_while_it_writes_and_between_content_and_row_leaves_nothing_half(
    artifact: Callable[..., Any],
    surroundings: dict[str, str],
    tokens: dict[str, str],
    transactions: Transactions,
    tmp_path: Path,
    data_dir: Path,
) -> None:
    (tmp_path / "plan.md").write_bytes(os.urandom(2**20) * 64)
    digest = hashlib.sha256((tmp_path / "plan.md").read_bytes()).hexdigest()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"

    def waits() -> bool:
        # Only who is of the same role sees what a connection waits for.
        with transactions.engine.connect() as connection:
            return bool(connection.scalar(text(waiting)))

    def killed_when(is_time: Callable[[], bool], what: str) -> None:
        with tempfile.TemporaryFile() as output:
            words = ("artifact", "put", ROOM, "plan.md")
            process = forks.start("federation.cli.main", *words, cwd=tmp_path, env=surroundings | {"FEDERATION_TOKEN": tokens["ada"]}, stdout=output)
            try:
                until(is_time, what)
            finally:
                process.kill()
                process.wait()

    # Nobody records a version meanwhile.
    with transactions.begin("test:hand") as session:
        turns.take(session, f"artifact:{ROOM}:plan.md")
        killed_when(lambda: any((data_dir / "artifacts" / "drafts").glob("*")) or waits(), "it writes")
        killed_when(waits, "all is written, and it would record it")
    with transactions.begin("ada") as session:
        assert session.scalar(text("SELECT count(*) FROM artifacts")) == 0
        assert session.scalar(text("SELECT count(*) FROM events WHERE type = 'artifact.stored'")) == 0
    for file in stored(data_dir):
        assert file.parent.name == "drafts" or hashlib.sha256(file.read_bytes()).hexdigest() == file.name == digest
    assert artifact("bob", "list", ROOM).stdout == f"Nothing is shared in {ROOM}.\n"
    # The file that nobody knows of is taken for what it is, when it is put again.
    assert told(artifact("ada", "put", ROOM, "plan.md", "--json"))["version"] == 1
    assert told(artifact("bob", "get", ROOM, "plan.md", "--to", "got", "--json"))["sha256"] == digest
    assert (tmp_path / "got").read_bytes() == (tmp_path / "plan.md").read_bytes()
