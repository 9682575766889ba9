"""`federation model`: what a person trusts, and what a script learns of it."""

import json
import os
import re
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federation.local.person import person


def test_what_is_installed_is_as_known(federation: Callable[..., Any]) -> None:
    done = federation("model", "verify", "--json")
    told = json.loads(done.stdout)
    models = ["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2", "wordllama-l2-supercat-256", "wordllama-l2-supercat-256 tokenizer"]
    assert (done.returncode, told["ok"], told["models"]) == (0, True, models)


def test_added_model_is_listed_verified_and_its_changed_file_named(federation: Callable[..., Any], data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own model [x]"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.gguf").write_bytes(b"GGUF and numbers")
    (folder / "deep" / "words.json").write_text("{}")
    done = federation("model", "add", "own/model [x]", str(folder))
    assert (done.returncode, done.stderr.startswith("federation: the log does not tell of this: FEDERATION_DATABASE_URL is not set")) == (0, True)
    assert "own/model [x]: 2 files are trusted as now" in done.stdout
    listed = {row["name"]: row for row in json.loads(federation("model", "list", "--json").stdout)}
    assert listed["own/model [x]"]["root"] == str(folder)
    assert sorted(listed["own/model [x]"]["files"]) == ["deep/words.json", "weights.gguf"]
    assert f"{folder}/weights.gguf" in federation("model", "list").stdout
    assert federation("model", "verify", "own/model [x]").returncode == 0

    (folder / "weights.gguf").write_bytes(b"GGUF and nvmbers")
    (folder / "deep" / "words.json").unlink()
    done = federation("model", "verify", "own/model [x]")
    assert done.returncode == 1
    assert f"{folder}/weights.gguf: got SHA-256" in done.stderr
    assert f"{folder}/deep/words.json: got no file" in done.stderr
    told = json.loads(federation("model", "verify", "own/model [x]", "--json").stdout)
    assert [Path(each["file"]).name for each in told["differences"]] == ["words.json", "weights.gguf"]
    (folder / "deep" / "words.json").write_text("{}")
    assert "1 file is not as known." in federation("model", "verify", "own/model [x]").stdout

    assert federation("model", "add", "own/model [x]", str(folder)).returncode == 0
    assert federation("model", "verify", "own/model [x]").returncode == 0


def test_what_is_not_there_is_named(federation: Callable[..., Any], tmp_path: Path) -> None:
    done = federation("model", "verify", "all-MiniLM-L6")
    assert (done.returncode, "nearest: all-MiniLM-L6-v2" in done.stderr) == (1, True)
    done = federation("model", "add", "x", str(tmp_path / "nothing"))
    assert (done.returncode, "PATH: got" in done.stderr) == (2, True)
    done = federation("model", "add", "x\n", str(tmp_path))
    assert (done.returncode, "NAME: got" in done.stderr) == (2, True)
    (tmp_path / "empty").mkdir()
    done = federation("model", "add", "x", str(tmp_path / "empty"))
    assert (done.returncode, "a folder with files in it: hidden ones do not count" in done.stderr.replace("\n", " ")) == (2, True)


@pytest.fixture
def logged(surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> str:
    """The database that the shell reaches, and its log."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    return database


@pytest.mark.parametrize("where", ["the file", "its folder", "a file in the folder"])
def test_a_name_that_is_no_utf8_is_refused_in_one_line(
    federation: Callable[..., Any], logged: str, data_dir: Path, tmp_path: Path, where: str
) -> None:
    no_text = os.fsdecode(b"caf\xe9")
    path = tmp_path / (no_text if where == "its folder" else "model")
    path.mkdir()
    file = path / ("weights" if where == "its folder" else no_text)
    file.write_bytes(b"GGUF and numbers")
    done = federation("model", "add", "own/model", str(path if where == "a file in the folder" else file))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    # What is in a folder is found by the command, and not said by who calls.
    told = r"PATH: got '.*caf\\udce9.*UTF-8" if where == "a file in the folder" else r"argument 4: got 'bytes that are no text, .*, wants UTF-8"
    assert re.match(f"federation: {told}", done.stderr)
    assert not (data_dir / "models.json").exists()


def test_the_log_tells_who_trusts_which_files(federation: Callable[..., Any], logged: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF and numbers")
    done = federation("model", "add", "own/model", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    with psycopg.connect(logged) as connection:
        [(actor, stream, payload)] = connection.execute("SELECT actor, stream, payload FROM events WHERE type = 'model.added'").fetchall()
    assert (actor, stream) == (person(), "model:own/model")
    assert payload == {
        "version": 1,
        "name": "own/model",
        "machine": socket.gethostname(),
        "root": str(file),
        "files": {"weights.gguf": sha256(b"GGUF and numbers").hexdigest()},
    }
