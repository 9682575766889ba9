"""Life and death of processes, as the supervisor sees them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from federation.local import children


def test_zombie_counts_as_dead() -> None:
    process = subprocess.Popen(["true"])
    assert children.wait_until(lambda: not children.is_alive(process.pid), 60)  # nobody has reaped it
    assert Path(f"/proc/{process.pid}").exists()
    process.wait()


def test_pid_that_another_process_took_is_not_the_same() -> None:
    assert children.is_alive(os.getpid(), children.birth(os.getpid()))
    assert not children.is_alive(os.getpid(), "1")


def test_child_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = children.spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], log=log)
    assert children.wait_until(lambda: "ready" in log.read_text(), 60)
    assert children.stop(process, signal.SIGTERM, grace_s=0.2) == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_child_runs_as_nobody_and_still_dies_with_its_parent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = "\n".join(
        [
            "import sys, time; from pathlib import Path; from federation.local import children",
            "child = children.spawn(['sleep', '600'], log=Path(sys.argv[1]), account=children.unprivileged_account(), cwd=Path('/'))",
            "print(child.pid, flush=True); time.sleep(600)",
        ]
    )
    process = subprocess.Popen([sys.executable, "-c", parent, log], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    child = int(process.stdout.readline())
    assert Path(f"/proc/{child}").stat().st_uid != 0
    process.kill()
    process.communicate()
    assert children.wait_until(lambda: not children.is_alive(child), 60)


@pytest.mark.parametrize("account", [None, children.unprivileged_account()])
def test_another_user_gets_none_of_our_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: children.Account | None) -> None:
    monkeypatch.setenv("FEDERATION_DATABASE_SERVICE_URL", "postgresql://federation_service:hunter2@127.0.0.1/")
    log = tmp_path / "log"
    assert children.spawn(["env"], log=log, account=account, cwd=Path("/"), environment={"FEDERATION_GIVEN": "yes"}).wait(60) == 0
    told = dict(line.split("=", 1) for line in log.read_text().splitlines() if line.startswith("FEDERATION_"))
    assert ("FEDERATION_DATABASE_SERVICE_URL" in told) == (account is None)
    assert told["FEDERATION_GIVEN"] == "yes"


def test_folder_closed_to_others_cannot_be_entered(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    stranger = children.Account("stranger", 54321, 54321)
    assert not children.can_enter(closed / "file", stranger)
