"""A federation of stand-ins, the real supervisor over small real processes: `standins.py DATA_DIR [fail] [slow] [patient] [postgres=PORT]`.

Each change of a part is a line of standard output: `<name> <state> <pid>`.
"""

import http.client
import signal
import sys
from pathlib import Path

from federation.errors import LocalServiceError
from federation.local.forkserver import ForkServer
from federation.local.home import Home
from federation.local.lock import AlreadyRunning, exclusive
from federation.local.parts import Part
from federation.local.ports import free_port
from federation.local.postgres import Postgres
from federation.local.slot import Backoff
from federation.local.state import View
from federation.local.supervisor import Supervisor

# Its own child stays in its process group and asks the kernel to die with it, as a pool's children do; both ignore the polite signal where told so.
CHILD = """
import ctypes, signal, time
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
PARENT = f"""
import signal, subprocess, sys, time
if sys.argv[1:] == ["stubborn"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
time.sleep(600)
"""


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main(data_dir: str, *flags: str) -> None:
    home = Home(Path(data_dir))
    home.create()
    port = free_port()
    python = sys.executable
    web = Part(name="web", command=[python, "-m", "http.server", "--bind", "127.0.0.1", str(port)], is_ready=lambda: answers(port), cwd=home.run_dir)
    step = Part(name="step", command=[python, "-c", f"import sys; print('a reason'); sys.exit({int('fail' in flags)})"], once=True)
    # Asked twice, the supervisor does not wait for the minute of a slow one's grace.
    grace_s = 60.0 if "slow" in flags else 0.5
    stubborn = Part(
        name="stubborn",
        command=[python, "-c", PARENT, "stubborn"],
        is_ready=lambda: "ready" in home.log("stubborn").read_text(),
        death_signal=signal.SIGUSR1,
        grace_s=grace_s,
    )
    parent = Part(name="parent", command=[python, "-c", PARENT], is_ready=lambda: "ready" in home.log("parent").read_text())
    stages = [[web], [step], [parent, stubborn]]
    ports = [int(flag.partition("=")[2]) for flag in flags if flag.startswith("postgres=")]
    if ports:
        stages = [[Postgres(home.data_dir / "postgres", ports[0]).part(), web]]
    told: dict[str, str] = {}

    def tell(view: View) -> None:
        now = {part.name: f"{part.state} {part.pid}" for part in view.parts}
        for name, line in now.items() - told.items():
            sys.stdout.write(f"{name} {line}\n")
            sys.stdout.flush()
        told.update(now)

    with exclusive(home):
        # Of these parts `web` alone is a module of Python.
        forks = ForkServer(["http.server"], home.log("forkserver"))
        backoff = Backoff(first_s=600, most_s=600) if "patient" in flags else Backoff(first_s=0.2, most_s=1.0)
        Supervisor(stages, home, on_change=tell, backoff=backoff, forks=forks).run()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except AlreadyRunning:
        sys.exit(9)
    except LocalServiceError as error:
        sys.stderr.write(str(error))
        sys.exit(69)
