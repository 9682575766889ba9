"""The commands that serve a model: llama.cpp's for a file, vLLM's for a folder, with the cards that there are."""

import signal
from pathlib import Path

import pytest

from federation.errors import LocalServiceError
from federation.local.model_parts import Serving
from federation.local.parts import Part


def part(weights: Path, *, cards: int, vllm: bool = True, key: Path | None = None) -> Part:
    serving = Serving(
        name="qwen",
        model="Qwen",
        weights=weights,
        digest="abc",
        host="127.0.0.1",
        port=8001,
        window=2048,
        parallel=16,
        cards=cards,
        threads=2,
        key_file=key,
        vllm_python=Path("/opt/vllm/bin/python") if vllm else None,
    )
    return serving.part(is_ready=lambda: True, check=lambda: None)


def words(made: Part) -> str:
    return " ".join(map(str, made.command))


def test_a_file_is_served_by_llama_cpp_on_the_cards_that_there_are(tmp_path: Path) -> None:
    file = tmp_path / "qwen.gguf"
    file.touch()
    on_cpu = words(part(file, cards=0))
    assert f"federation.engines.llama_server --weights {file} --model Qwen --host 127.0.0.1 --port 8001 --digest abc" in on_cpu
    assert "--window 2048 --parallel 16 --threads 2" in on_cpu
    assert "--gpu-layers" not in on_cpu
    assert words(part(file, cards=2)).endswith("--gpu-layers 999")


def test_a_folder_is_served_by_vllm_with_tensor_parallelism(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    on_cards = part(tmp_path, cards=2, key=key)
    assert words(on_cards).startswith(f"/opt/vllm/bin/python -m vllm.entrypoints.openai.api_server --model {tmp_path} --served-model-name Qwen ")
    assert "Qwen@sha256:abc" in words(on_cards)
    assert words(on_cards).endswith("--max-model-len 2048 --max-num-seqs 16 --tensor-parallel-size 2")
    assert (on_cards.environment["VLLM_API_KEY"], "secret" in words(on_cards), on_cards.environment["HF_HUB_OFFLINE"]) == ("secret", False, "1")
    on_cpu = part(tmp_path, cards=0)
    assert words(on_cpu).endswith("--dtype bfloat16 --enforce-eager")
    assert on_cpu.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    # SIGKILL would leave the processes of its engine behind.
    assert on_cpu.death_signal == signal.SIGTERM


def test_a_folder_without_vllm_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LocalServiceError, match="FEDERATION_VLLM_PYTHON, or name a GGUF file"):
        part(tmp_path, cards=0, vllm=False)
