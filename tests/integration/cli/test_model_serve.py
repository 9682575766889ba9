"""`federation model serve` keeps llama.cpp's real server running, and `federation model test` asks it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.engines import smollm2
from federation.local import children, state
from federation.local.home import Home
from federation.local.ports import keep_or_choose
from federation.local.state import PartState, Phase, View
from tests.model_servers import MODEL

WITHIN_S = 90.0


class Served:
    """One server of a node's file, and `federation model serve` for it."""

    def __init__(self, data_dir: Path, surroundings: dict[str, str], **fields: Any) -> None:
        self.port = keep_or_choose(None)
        self.workers_dir = data_dir.parent / "workers"
        self.workers_dir.mkdir(exist_ok=True)
        self.url = f"http://127.0.0.1:{self.port}"
        entry = {"name": "small", "model": MODEL, "url": self.url, "weights": str(smollm2.weights_path()), "window": 512, "parallel": 2, **fields}
        lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
        (self.workers_dir / "solo.toml").write_text("\n".join(['role = "developer"', "[[servers]]", *lines]))
        self.environment = surroundings | {"FEDERATION_WORKERS_DIR": str(self.workers_dir)}
        self.home = Home(data_dir / "models" / f"small-{self.port}")
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, wait: bool = True) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "federation.cli.main", "model", "serve", "small"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=self.environment, text=True, cwd=self.workers_dir, **pipes)
        if wait:
            assert children.wait_until(lambda: self.is_running() or self.process.poll() is not None, WITHIN_S)
            assert self.process.poll() is None, self.process.communicate()
        return self.process

    def view(self) -> View | None:
        return state.read(self.home)

    def is_running(self) -> bool:
        view = self.view()
        return view is not None and view.phase is Phase.RUNNING and view.parts[0].state is PartState.RUNNING

    def pid(self) -> int:
        view = self.view()
        assert view
        assert view.parts[0].pid
        return view.parts[0].pid

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.communicate()


@pytest.fixture
def serve(data_dir: Path, surroundings: dict[str, str]) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def make(**fields: Any) -> Served:
        made.append(Served(data_dir, surroundings, **fields))
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_server_answers_is_started_again_when_it_dies_and_ends_when_asked(serve: Callable[..., Served], federation: Callable[..., Any]) -> None:
    served = serve()
    process = served.start()
    tested = federation("model", "test", "small", "--json", FEDERATION_WORKERS_DIR=str(served.workers_dir))
    told = json.loads(tested.stdout)
    assert (tested.returncode, told["model"], told["window"], told["model_digest"]) == (0, MODEL, 512, smollm2.checked().digest)
    assert "Paris" in told["text"]
    first = served.pid()
    os.kill(first, signal.SIGKILL)
    assert children.wait_until(lambda: served.is_running() and served.pid() != first, WITHIN_S)
    shown = federation("model", "test", "small", FEDERATION_WORKERS_DIR=str(served.workers_dir))
    assert "Paris" in shown.stdout
    assert "tokens read" in shown.stderr
    second = served.pid()
    process.terminate()
    assert process.wait(WITHIN_S) == 0
    assert not children.is_alive(second)
    assert f"is served at {served.url}" in process.communicate()[0].replace("\n", " ")
    away = federation("model", "test", "small", FEDERATION_WORKERS_DIR=str(served.workers_dir))
    assert (away.returncode, "does not answer" in away.stderr) == (69, True)


def test_server_ends_with_whoever_keeps_it_however_that_ends(serve: Callable[..., Served]) -> None:
    served = serve()
    process = served.start()
    pid = served.pid()
    process.kill()
    process.wait()
    assert children.wait_until(lambda: not children.is_alive(pid), WITHIN_S)


def test_weights_that_are_not_the_known_ones_are_not_served(serve: Callable[..., Served], tmp_path: Path) -> None:
    weights = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    shutil.copyfile(smollm2.checked().path, weights)
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    process = serve(weights=str(weights)).start(wait=False)
    _, said = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, "got SHA-256" in said, f"federation model add {MODEL}" in said) == (1, True, True)
    process = serve(model="Own-1B").start(wait=False)
    _, said = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, "no digest of Own-1B is known" in said) == (1, True)


def test_weights_that_changed_meanwhile_are_not_served_again_and_the_terminal_says_why(serve: Callable[..., Served], tmp_path: Path) -> None:
    weights = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    shutil.copyfile(smollm2.checked().path, weights)
    served = serve(weights=str(weights))
    process = served.start()
    with weights.open("ab") as file:
        file.write(b"\xff")
    os.kill(served.pid(), signal.SIGKILL)

    def is_refused() -> bool:
        view = served.view()
        return view is not None and "SHA-256" in (view.parts[0].last_exit or "")

    assert children.wait_until(is_refused, WITHIN_S)
    process.terminate()
    _, said = process.communicate(timeout=WITHIN_S)
    assert "part.died part=small how=signal SIGKILL" in said
    assert "part.not_started part=small" in said
    assert f"federation model add {MODEL}" in said.replace("\n", " ")


def test_address_that_somebody_has_is_named(serve: Callable[..., Served]) -> None:
    served = serve()
    served.start()
    other = serve(url=served.url)
    other.home = Home(served.home.data_dir)
    process = other.start(wait=False)
    _, said = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, "is running already" in said) == (69, True)
    renamed = serve(url=f"{served.url}/v1", name="small")
    renamed.environment["FEDERATION_DATA_DIR"] = str(renamed.workers_dir / "elsewhere")
    process = renamed.start(wait=False)
    _, said = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, "Address already in use" in said) == (69, True)


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"url": "http://192.0.2.7:8001"}, 1, "wants a key: name its file in `key_file` of server small"),
        ({"weights": "/"}, 69, "FEDERATION_VLLM_PYTHON"),
        ({"weights": "/nowhere/model.gguf"}, 1, "no file '/nowhere/model.gguf'"),
        ({"url": "https://127.0.0.1:8001"}, 2, "speaks no TLS"),
    ],
)
def test_what_cannot_be_served_is_said(serve: Callable[..., Served], tmp_path: Path, fields: dict[str, Any], status: int, said: str) -> None:
    if fields.get("weights") == "/":
        folder = tmp_path / "model"
        folder.mkdir()
        shutil.copyfile(smollm2.checked().path, folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
        fields = {"weights": str(folder)}
    process = serve(**fields).start(wait=False)
    _, told = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, said in told.replace("\n", " ")) == (status, True), told


def test_a_name_that_no_file_has_is_told_with_the_nearest(serve: Callable[..., Served], federation: Callable[..., Any]) -> None:
    served = serve()
    for command in ("serve", "test"):
        done = federation("model", command, "smal", FEDERATION_WORKERS_DIR=str(served.workers_dir))
        assert (done.returncode, "no model server 'smal'; nearest: small" in done.stderr) == (1, True)
