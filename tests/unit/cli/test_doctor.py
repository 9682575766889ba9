"""What `federation doctor` says of weights that no node would load."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from federation import settings as settings_module
from federation.cli.doctor import weights
from federation.engines import catalogue, digests
from federation.local.checks import Finding, Verdict, all_findings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of weights that is not the one which ships, where the one engine looks for it."""
    path = tmp_path / "weights.gguf"
    path.write_bytes(b"GGUF and other numbers")
    monkeypatch.setattr(catalogue, "ENGINES", [replace(catalogue.CHAT[0], root=lambda: path)])
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
    settings_module.settings.cache_clear()
    yield path
    settings_module.settings.cache_clear()


def told() -> Finding:
    [finding] = [finding for finding in all_findings(weights) if finding.check == "weights"]
    return finding


def test_weights_that_nodes_refuse_are_told_with_the_remedy(file: Path) -> None:
    finding = told()
    assert finding.verdict is Verdict.FAIL
    assert str(file) in finding.saw
    assert f"federation model add {catalogue.CHAT[0].model} {file}" in finding.remedy


def test_weights_that_the_operator_vouched_for_are_well(file: Path) -> None:
    name = catalogue.CHAT[0].model
    digests.file_of_added().write_text(json.dumps(digests.described({name: digests.measured(name, file)})))
    assert told().verdict is Verdict.OK


def test_a_list_of_vouched_models_that_cannot_be_read_is_told(file: Path) -> None:
    digests.file_of_added().write_text("[")
    assert (told().verdict, str(digests.file_of_added()) in told().saw) == (Verdict.FAIL, True)
