"""The supervisor on a disk that is really full: it goes on, says so, and recovers when there is room again."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from federation.local import children
from federation.local.ports import free_port
from federation.local.postgres import Postgres
from federation.local.state import PartState, Phase
from tests.integration.local.disk import HERE, MEBIBYTES, WITHIN_S, SmallDisk, end


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: root's PostgreSQL runs as nobody, who cannot enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="federation-disk-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def disk(folder: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(folder, [sys.executable, str(HERE / "standins.py"), str(folder / "data")])
    yield made
    end(made)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def disk_with_database(folder: Path, port: int) -> Iterator[SmallDisk]:
    made = SmallDisk(folder, [sys.executable, str(HERE / "standins.py"), str(folder / "data"), f"postgres={port}"])
    yield made
    end(made)


def test_part_that_dies_on_a_full_disk_is_started_again_and_told_when_there_is_room(disk: SmallDisk) -> None:
    disk.wait_running()
    victim = disk.part("web").pid
    assert victim
    disk.fill()
    os.kill(victim, signal.SIGKILL)
    successor = disk.hear("web", PartState.RUNNING, not_pid=victim)
    # Nothing changes any more, and the file of the state could not tell what did.
    assert disk.pids("-m http.server") == {successor}
    assert disk.part("web").pid == victim
    # No half of a file either, but for the moment of a try.
    assert children.wait_until(lambda: not list(disk.home.run_dir.glob("state.json.*")), WITHIN_S)
    disk.make_room()
    assert children.wait_until(lambda: disk.part("web").pid == successor, WITHIN_S)
    view = disk.view()
    assert view
    assert (view.phase, view.problem, disk.part("web").restarts) == (Phase.RUNNING, None, 1)
    told = end(disk)
    assert disk.process.returncode == 0
    assert "supervisor.state_not_written" in told
    assert "No space left on device" in told
    assert "supervisor.state_written_again" in told
    assert "Traceback" not in told


def test_full_disk_does_not_keep_the_supervisor_from_ending_its_parts(disk: SmallDisk) -> None:
    disk.wait_running()
    disk.fill()
    pids = disk.pids("")
    assert len(pids) >= 3
    end(disk)
    assert disk.process.returncode == 0
    assert children.wait_until(lambda: not any(children.is_alive(pid) for pid in pids), WITHIN_S)


def test_database_comes_back_with_its_rows_when_there_is_room_again(disk_with_database: SmallDisk, port: int) -> None:
    disk = disk_with_database
    disk.wait_running()
    server = Postgres(disk.home.data_dir / "postgres", port)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("create table kept (n int)")
        connection.execute("insert into kept values (7)")
        disk.fill()
        with pytest.raises(psycopg.Error, match=r"No space left|terminat|closed"):
            # More than the log that is there has room for.
            connection.execute("create table lost as select n, repeat('x', 1000) as text from generate_series(1, 200000) n")
    assert disk.process.poll() is None
    disk.make_room()
    assert children.wait_until(lambda: server.answers() and disk.part("postgres").state is PartState.RUNNING, WITHIN_S)
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("select n from kept").fetchall() == [(7,)]
        connection.execute("insert into kept values (8)")


def test_start_on_a_full_disk_says_that_it_is_full(folder: Path) -> None:
    fill = f"head -c {MEBIBYTES}M /dev/zero > {folder}/filler; exec {sys.executable} -m federation.cli.main up --detach --nodes baby"
    words = [sys.executable, HERE / "small_disk.py", str(MEBIBYTES), folder, "/bin/sh", "-c", fill]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_") or name == "FEDERATION_CACHE_DIR"}
    done = subprocess.run(
        words, env=clean | {"FEDERATION_DATA_DIR": str(folder / "data")}, capture_output=True, text=True, check=False, timeout=WITHIN_S
    )
    if done.returncode == 77:
        pytest.skip(f"this system lets no ordinary user mount a disk: {done.stderr}")
    assert done.returncode == 69, done.stderr
    assert "is full" in done.stderr or "No space left" in done.stderr
    assert "Traceback" not in done.stderr
