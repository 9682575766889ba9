"""The benchmark of a GPU runs where there is none, says so, and claims no figure."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import model
from benchmarks.gpu.measure import likeness
from benchmarks.gpu.plans import EXECUTION
from federation.services.indexing import BATCH


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks.gpu", *options], capture_output=True, text=True, check=False, timeout=240)


def test_the_short_form_measures_both_with_the_same_vectors_and_says_what_it_ran_on(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    done = run("--quick", "--json", str(kept))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(kept.read_text())
    assert {reading["peer"] for reading in told["readings"]} == {
        "federation",
        "federation, from files",
        "bare encode, 8 a batch",
        f"bare encode, {EXECUTION} a batch",
    }
    assert all(reading["value"] > 0 for reading in told["readings"])
    assert told["likenesses"]["fp32"]["least_cosine"] > 0.9999
    assert [goal["held"] for goal in told["goals"] if goal["row"] == "fp32"] == [True]
    if not torch.cuda.is_available():
        assert told["machine"]["gpu"] == {}
        assert "its figures say nothing of a GPU" in " ".join(done.stdout.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    done = run("--json", str(tmp_path / "kept.json"))
    assert done.returncode == 69
    assert "no GPU here that torch sees" in done.stdout
    assert not (tmp_path / "kept.json").exists()


def test_a_vocabulary_that_is_learned_serves_where_none_is_installed(tmp_path: Path) -> None:
    texts = ["def ensure_connection(self): ...", "how does a connection retry"]
    model.write(tmp_path, texts, vocabulary=None, layers=1)
    loaded = model.load(tmp_path, device="cpu", dtype=torch.float32)
    engine = model.engine(tmp_path, loaded, 512)
    vectors = engine.embed(texts)
    assert engine.count_tokens([""]) == [2]
    assert vectors.shape == (2, model.DIM)
    assert likeness(vectors, loaded.encode(texts)) == (pytest.approx(1.0, abs=1e-5), 1.0)


def test_likeness_tells_other_vectors_from_the_same() -> None:
    rows = np.eye(4, dtype=np.float32)
    assert likeness(rows, rows) == (1.0, 1.0)
    assert likeness(rows, rows[::-1].copy()) == (0.0, 0.0)


def test_a_call_holds_as_many_chunks_as_an_execution() -> None:
    assert EXECUTION == BATCH
