"""Files of models are looked at before a byte of them is interpreted, on copies of the real ones."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federation import settings as settings_module
from federation.delivery import machine
from federation.engines import digests, minilm, smollm2
from federation.errors import SettingsError, WeightsChanged, WeightsUnknown


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory of this test's own, in which nothing was added."""
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    settings_module.settings.cache_clear()
    yield tmp_path / "data"
    settings_module.settings.cache_clear()


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def no_runner(*_: Any, **__: Any) -> None:
    raise AssertionError("a file that is not known was handed to its runner")


@pytest.fixture
def gguf(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the real weights of SmolLM2, where the engine looks for them."""
    source = smollm2.weights_path()
    assert source is not None
    copy = tmp_path / source.name
    shutil.copyfile(source, copy)
    monkeypatch.setattr(smollm2, "weights_path", lambda: copy)
    return copy


@pytest.fixture
def folder(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the real files of MiniLM, where the engine looks for them."""
    source = minilm.weights_path()
    assert source is not None
    shutil.copytree(source.parent, tmp_path / "model")
    monkeypatch.setattr(minilm, "weights_path", lambda: tmp_path / "model" / "model.safetensors")
    return tmp_path / "model"


@pytest.mark.parametrize("at", [0, 40_000_000], ids=["in its header", "in its numbers"])
def test_gguf_with_one_other_bit_is_refused_before_it_is_read(gguf: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    known = smollm2.checked()
    flip(gguf, at)
    monkeypatch.setattr(smollm2, "LlamaCpp", no_runner)
    with pytest.raises(WeightsChanged) as refusal:
        smollm2._load(1)
    assert (refusal.value.path, refusal.value.expected) == (gguf, known.digest)
    found = digests.sha256_of(gguf)
    assert found != known.digest
    for told in (str(gguf), known.digest, found, "install the model again", f"federation model add {smollm2.NAME} {gguf}"):
        assert told in str(refusal.value)
    # A node does not announce what it would refuse to load.
    has = machine.look(["llamacpp", "minilm"])
    assert has.engines == {"minilm"}


def test_safetensors_with_one_other_bit_are_refused_before_they_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = folder / "model.safetensors"
    flip(weights, weights.stat().st_size - 1)
    monkeypatch.setattr(minilm, "CpuEncoder", no_runner)
    with pytest.raises(WeightsChanged, match=r"model\.safetensors: got SHA-256 [0-9a-f]{64}, wants SHA-256 53aa5117"):
        minilm._load(1)


def test_other_words_of_the_tokenizer_and_a_file_too_many_are_refused(folder: Path) -> None:
    flip(folder / "vocab.txt", 1000)
    with pytest.raises(WeightsChanged, match=r"vocab\.txt: got SHA-256"):
        minilm.checked()
    shutil.copyfile(minilm.__file__, folder / "vocab.txt")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").unlink()
    told = [(each.path.name, each.expected is None, each.found is None) for each in digests.differences(minilm.NAME, folder)]
    assert told == [("config.json", False, True), ("adapter_config.json", True, False), ("vocab.txt", False, False)]


def test_what_the_operator_vouches_for_is_loaded(gguf: Path, data_dir: Path) -> None:
    # Behind the end of what the model reads, so that it still answers.
    with gguf.open("ab") as file:
        file.write(b"\0" * 32)
    with pytest.raises(WeightsChanged):
        smollm2.checked()
    (data_dir / digests.ADDED).write_text(json.dumps(digests.described({smollm2.NAME: digests.measured(smollm2.NAME, gguf)})))
    loaded = smollm2._load(1)
    # What a run records is what was looked at, not what lies there later.
    looked_at = digests.sha256_of(gguf)
    flip(gguf, gguf.stat().st_size - 1)
    assert loaded.digest() == looked_at != digests.sha256_of(gguf)


def test_model_that_nobody_vouched_for_is_refused(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    with pytest.raises(WeightsUnknown, match="federation model add mine"):
        digests.check("mine", tmp_path / "own.gguf", tmp_path / "own.gguf")


@pytest.mark.parametrize("content", ["nonsense", "[]", '{"m": {}}', '{"m": {"root": 5, "files": {}}}'])
def test_file_of_digests_that_is_none_is_named(data_dir: Path, content: str) -> None:
    (data_dir / digests.ADDED).write_text(content)
    with pytest.raises(SettingsError, match=r"models\.json does not tell the digests"):
        digests.added()


def test_shipped_digests_are_those_of_what_is_installed(data_dir: Path) -> None:
    checks: list[Callable[[], digests.Weights]] = [minilm.checked, smollm2.checked]
    assert [len(check().digest) for check in checks] == [64, 64]
