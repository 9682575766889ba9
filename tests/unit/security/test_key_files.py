"""The key of a part whose processes all start for the first time at once."""

import subprocess
import sys
from pathlib import Path

TIMES, PROCESSES = 25, 6
PROGRAM = f"""
import os, sys
from pathlib import Path
from federation.security.key_files import own_key

for number in range({TIMES}):
    path = Path(sys.argv[1]) / str(number) / "part.pem"
    wait, start = os.pipe()
    forks = []
    for _ in range({PROCESSES}):
        if not (pid := os.fork()):
            os.close(start)
            os.read(wait, 1)
            print(number, own_key(path).public.identity, flush=True)
            os._exit(0)
        forks.append(pid)
    os.close(start)
    os.close(wait)
    for pid in forks:
        os.waitpid(pid, 0)
"""


def test_all_have_the_same_key(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, check=True, env={"PYTHONUNBUFFERED": ""})
    assert done.stderr == ""
    told = [tuple(line.split()) for line in done.stdout.splitlines()]
    assert len(told) == TIMES * PROCESSES
    assert len(set(told)) == TIMES
