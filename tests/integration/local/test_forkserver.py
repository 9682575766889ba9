"""Processes forked from one that has imported what they run: they are what `python -m` would have started, and end as such do."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from federation.cli.fleet import IMPORTS
from federation.local import children
from federation.local.forkserver import Forked, ForkServer
from federation.local.parts import PYTHON, Part, run, spawn

WITHIN_S = 90.0
# A module that tells what it is, and one that waits for its end.
TELLING = """
import os, sys
print(__name__, sys.argv[1:], os.getcwd() == sys.path[0], os.environ.get("SEEN"), sorted(os.environ), os.getsid(0) == os.getpid())
print(sys.stdin.read(), file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""
# A module that has much to do in the end, and is told how to end.
ENDING = """
import atexit, logging.handlers, sys, threading, time
kept = logging.handlers.MemoryHandler(100, target=logging.StreamHandler(sys.stdout))
logging.getLogger().addHandler(kept)
kept.buffer.append(logging.makeLogRecord({"msg": "kept until the end"}))
atexit.register(print, "at the end", flush=False)
threading.Thread(target=lambda: (time.sleep(0.1), print("a thread's end"))).start()
exec(sys.argv[1])
sys.stdout.write("half a line")
"""
WAITING = "import time\nprint('ready', flush=True)\ntime.sleep(1000)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "telling.py").write_text(TELLING)
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "ending.py").write_text(ENDING)
    return tmp_path


@pytest.fixture
def forks(folder: Path) -> Iterator[ForkServer]:
    server = ForkServer(["json"], folder / "forkserver.log")
    yield server
    server.stop()


def start(forks: ForkServer, folder: Path, *arguments: str, text: str = "", **environment: str) -> Forked:
    (folder / "in").write_text(text)
    with (folder / "in").open() as given, (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return forks.start(arguments, cwd=folder, environment=environment, files=(given.fileno(), out.fileno(), err.fileno()))


def waiting(forks: ForkServer, folder: Path) -> Forked:
    process = start(forks, folder, "waiting")
    assert children.wait_until(lambda: (folder / "out").read_text() == "ready\n", WITHIN_S)
    return process


def test_a_forked_module_has_what_it_was_given_and_nothing_of_its_server(forks: ForkServer, folder: Path) -> None:
    process = start(forks, folder, "telling", "3", "a b", text="given", SEEN="yes", PATH="/bin")
    assert process.wait(WITHIN_S) == 3
    assert (folder / "out").read_text() == "__main__ ['3', 'a b'] True yes ['PATH', 'SEEN'] True\n"
    assert (folder / "err").read_text() == "given\n"
    assert process.poll() == process.wait() == 3


def test_a_forked_module_ends_as_it_would_alone(forks: ForkServer, folder: Path) -> None:
    given = ("pass", "sys.exit()", "sys.exit(3)", "sys.exit(300)", "sys.exit(-1)", "sys.exit('told')", "sys.exit(True)", "1 / 0")
    for how in (*given, "raise KeyboardInterrupt"):
        status = start(forks, folder, "ending", how).wait(WITHIN_S)
        alone = subprocess.run([sys.executable, "-m", "ending", how], cwd=folder, capture_output=True, text=True, check=False)
        assert (status, (folder / "out").read_text()) == (alone.returncode, alone.stdout), how
        assert "a thread's end\nat the end\nkept until the end\n" in alone.stdout
        # A traceback begins in what has run the module.
        assert (folder / "err").read_text().splitlines()[-1:] == alone.stderr.splitlines()[-1:], how


def test_a_forked_module_whose_output_nobody_takes_ends_as_it_would_alone(forks: ForkServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with Path("/dev/full").open("wb") as full, Path(os.devnull).open("rb") as given, (folder / "err").open("w") as err:
        files = (given.fileno(), full.fileno(), err.fileno())
        status = forks.start(["ending", "pass"], cwd=folder, environment={}, files=files).wait(WITHIN_S)
        alone = subprocess.run([sys.executable, "-m", "ending", "pass"], cwd=folder, stdout=full, stderr=subprocess.DEVNULL, check=False)
    assert status == alone.returncode == 120
    assert "No space left on device" in (folder / "err").read_text()


def test_an_environment_may_be_large(forks: ForkServer, folder: Path) -> None:
    assert start(forks, folder, "telling", "0", SEEN="x" * 1_000_000).wait(WITHIN_S) == 0
    assert len((folder / "out").read_text()) > 1_000_000


def test_it_is_ended_by_signals_and_says_so(forks: ForkServer, folder: Path) -> None:
    process = waiting(forks, folder)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    assert children.stop(process, signal.SIGTERM) == -signal.SIGTERM
    process.send_signal(signal.SIGTERM)
    assert not children.is_alive(process.pid)


def test_ps_shows_what_it_is(forks: ForkServer, folder: Path) -> None:
    process = waiting(forks, folder)
    assert psutil.Process(process.pid).cmdline()[:1] == [f"{Path(sys.executable).name} -m waiting"]


def test_one_whose_server_was_killed_ends_and_the_next_one_has_a_new_server(forks: ForkServer, folder: Path) -> None:
    process = waiting(forks, folder)
    server = psutil.Process(process.pid).ppid()
    os.kill(server, signal.SIGKILL)
    assert process.wait(WITHIN_S) == -signal.SIGKILL
    assert not children.is_alive(process.pid)
    after = waiting(forks, folder)
    assert psutil.Process(after.pid).ppid() != server


def test_what_cannot_be_imported_is_told(folder: Path) -> None:
    forks = ForkServer(["no_such_module"], folder / "forkserver.log")
    forks.prepare()
    assert children.wait_until(forks.is_ready, WITHIN_S)
    with pytest.raises(ConnectionError, match=r"ended with 1, see .*forkserver\.log"):
        start(forks, folder, "telling", "0")
    assert "No module named 'no_such_module'" in (folder / "forkserver.log").read_text()


def test_a_part_in_python_is_forked_and_another_is_not(forks: ForkServer, folder: Path) -> None:
    log = folder / "log"
    forked = spawn(Part(name="waiting", command=[*PYTHON, "waiting"], cwd=folder), log, forks)
    other = spawn(Part(name="other", command=["sleep", "1000"]), log, forks)
    try:
        assert psutil.Process(forked.pid).ppid() != os.getpid() == psutil.Process(other.pid).ppid()
        assert children.wait_until(lambda: log.read_text() == "ready\n", WITHIN_S)
    finally:
        for process in (forked, other):
            children.stop(process)
    alone = run(Part(name="waiting", command=[*PYTHON, "waiting"], cwd=folder, is_ready=lambda: log.read_text() == "ready\nready\n"), log)
    children.stop(alone)


def test_what_our_parts_import_starts_no_thread_reads_no_setting_and_loads_no_model(folder: Path) -> None:
    (folder / "looking.py").write_text(
        "import sys, threading, federation.settings as given\n"
        "from pathlib import Path\n"
        "print(threading.active_count(), len(list(Path('/proc/self/task').iterdir())))\n"
        "print(given.settings.cache_info().currsize)\n"
        "print([name for name in ('torch', 'numpy', 'lancedb', 'pyarrow', 'sentence_transformers', 'xllamacpp') if name in sys.modules])\n"
    )
    forks = ForkServer(IMPORTS, folder / "forkserver.log")
    try:
        # The server's own threads do not live on in a fork, so that they are counted there too.
        server = psutil.Process(waiting(forks, folder).pid).parent()
        assert server
        assert server.num_threads() == 1
        process = start(forks, folder, "looking", PYTHONPATH=os.pathsep.join(sys.path))
        assert process.wait(WITHIN_S) == 0, (folder / "err").read_text()
    finally:
        forks.stop()
    assert (folder / "out").read_text().splitlines() == ["1 1", "0", "[]"]


def test_a_fork_has_no_import_left_to_do(folder: Path) -> None:
    (folder / "importing.py").write_text(
        "import sys\nbefore = set(sys.modules)\nimport federation.celery, federation.frontdoor\nprint(set(sys.modules) - before)\n"
    )
    forks = ForkServer(IMPORTS, folder / "forkserver.log")
    try:
        assert start(forks, folder, "importing", PYTHONPATH=os.pathsep.join(sys.path)).wait(WITHIN_S) == 0, (folder / "err").read_text()
    finally:
        forks.stop()
    assert (folder / "out").read_text() == "set()\n"
