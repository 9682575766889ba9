"""llama.cpp's real server in a process of its own, which tests kill, stop and start again."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from federation.engines import smollm2
from federation.engines.openai import ModelServer
from federation.local.ports import keep_or_choose

MODEL = smollm2.NAME


class LlamaServer:
    """One server of SmolLM2 on a port of its own."""

    def __init__(self, folder: Path, *, name: str = "small", model: str = MODEL, port: int | None = None, **flags: object) -> None:
        self.name, self.model = name, model
        self.port = port or keep_or_choose(None)
        self._log = folder / f"{name}.log"
        given = {"window": 512, "parallel": 2, **flags}
        self._flags = [word for flag, value in given.items() for word in (f"--{flag.replace('_', '-')}", str(value))]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def entry(self) -> dict[str, Any]:
        """What a node's file says of it."""
        return {"name": self.name, "model": self.model, "url": self.url}

    def client(self, **more: Any) -> ModelServer:
        return ModelServer(self.name, url=f"{self.url}/v1", model=self.model, **more)

    def start(self) -> None:
        weights = smollm2.checked()
        command = [sys.executable, "-m", "federation.engines.llama_server", "--weights", str(weights.path), "--digest", weights.digest]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, "--model", self.model, "--port", str(self.port), *self._flags], stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while not self.client().is_healthy():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def send(self, signum: signal.Signals) -> None:
        assert self._process
        os.kill(self._process.pid, signum)
        if signum == signal.SIGSTOP:
            # It may go on for a moment, and answer.
            os.waitpid(self._process.pid, os.WUNTRACED)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def busy(self) -> int:
        """Return how many requests it works on, by its own account."""
        return sum(slot["is_processing"] for slot in json.loads(self.get("/slots")))

    def counted(self, metric: str) -> float:
        """Return one of its own counters."""
        (line,) = [line for line in self.get("/metrics").splitlines() if line.startswith(f"llamacpp:{metric} ")]
        return float(line.split()[1])


@contextmanager
def llama_server(folder: Path, **options: Any) -> Iterator[LlamaServer]:
    """Start a server, and end it."""
    server = LlamaServer(folder, **options)
    try:
        server.start()
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.kill()
