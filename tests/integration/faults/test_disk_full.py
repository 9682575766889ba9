"""The disk of the database is full, to the last byte, under load: who asks is told, and with room again all goes on."""

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federation.local import children
from federation.local.ports import free_port
from federation.local.postgres import ROLES, Postgres
from tests.integration.faults.proof import Load, again_and_again
from tests.integration.faults.system import System, running_system
from tests.integration.local.disk import HERE, SmallDisk, end
from tests.integration.world import World
from tests.toll import Toll

MEBIBYTES, TIMES, FULL_S = 500, 3, 5.0


@pytest.fixture
def disk() -> Iterator[tuple[SmallDisk, Postgres]]:
    """A small disk with a PostgreSQL on it, under the supervisor."""
    # Not tmp_path: root's PostgreSQL runs as nobody, who cannot enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="federation-disk-") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o711)
        command = [sys.executable, str(HERE / "standins.py"), str(folder / "data"), f"postgres={port}"]
        made = SmallDisk(folder, command, mebibytes=MEBIBYTES)
        try:
            made.wait_running()
            yield made, Postgres(made.home.data_dir / "postgres", port)
        finally:
            end(made)


@pytest.fixture
def on_small_disk(disk: tuple[SmallDisk, Postgres], activemq: Any, alembic: Any, tmp_path: Path) -> Iterator[tuple[System, SmallDisk]]:
    """A federation whose database is on the small disk."""
    activemq.start()
    small, server = disk
    passwords = {role: f"password-of-{role}" for role in ROLES}
    server.ensure_roles(passwords)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE work OWNER federation_owner")
    urls = {role: server.url("work", user=role, password=password) for role, password in passwords.items()}
    alembic(urls["federation_owner"], "upgrade", "head")
    app, service = urls["federation_app"], urls["federation_service"]
    world = World(tmp_path, owner_url=server.url("work"), database_url=app, service_url=service, broker=activemq)
    try:
        with running_system(world, None, activemq) as system:
            yield system, small
    finally:
        world.close()


@pytest.mark.fault("disk of the database full")
@pytest.mark.long
def test_full_disk_loses_nothing(on_small_disk: tuple[System, SmallDisk], toll: Toll, dice: random.Random) -> None:
    system, disk = on_small_disk
    load = Load(system, steps=2, agents=2)

    def fault() -> None:
        disk.fill()
        # What is freed meanwhile is filled again, so that it stays full.
        until = time.monotonic() + FULL_S
        while time.monotonic() < until:
            time.sleep(0.5)
            disk.fill()
        disk.make_room()

    again_and_again(system, load, toll, dice, fault, times=TIMES)
    told = [reason for worker in load.workers for reason in worker.refusals]
    assert any("PostgreSQL has no room left on its disk" in reason or "went away" in reason or "does not answer" in reason for reason in told), told
    assert disk.process.poll() is None
    assert children.is_alive(disk.process.pid)
