"""The table of engines, without loading any model."""

import dataclasses
import subprocess
import sys

import pytest

from federation.engines import catalogue
from federation.engines.contracts import ChatMessage
from federation.errors import InvalidInput, ModelUnavailable, NotFound


def test_looking_for_engines_imports_none_of_their_libraries() -> None:
    code = (
        "import sys; from federation.engines import catalogue; names = [e.name for e in catalogue.available()]; "
        "print(names, sorted({'torch', 'xllamacpp', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['minilm', 'wordllama', 'llamacpp'] []"


@pytest.mark.parametrize("entry", catalogue.ENGINES, ids=lambda entry: entry.name)
def test_engine_whose_library_is_missing_is_not_announced_and_says_what_to_install(
    entry: catalogue.EngineEntry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = dataclasses.replace(entry, modules=("no_such_library",))
    monkeypatch.setattr(catalogue, "ENGINES", (lacking,))
    monkeypatch.setattr(catalogue, entry.kind.name, (lacking,))
    assert catalogue.available() == []
    with pytest.raises(ModelUnavailable, match=r"missing: no_such_library.*pip install 'federation\["):
        getattr(catalogue, entry.kind.value)(entry.name)


@pytest.mark.parametrize("entry", catalogue.ENGINES, ids=lambda entry: entry.name)
def test_engine_without_weights_is_not_announced(entry: catalogue.EngineEntry[object]) -> None:
    assert dataclasses.replace(entry, weights=lambda: None).missing() == [f"weights of {entry.model}"]


def test_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="no embedding engine 'minilmm'; nearest: minilm"):
        catalogue.embedding("minilmm")


def test_chat_engine_is_no_embedding_engine() -> None:
    with pytest.raises(NotFound, match="no embedding engine 'llamacpp'"):
        catalogue.embedding("llamacpp")


def test_message_of_an_unknown_role_is_refused() -> None:
    with pytest.raises(InvalidInput, match="role: got 'robot', wants one of system, user, assistant"):
        ChatMessage("robot", "hello")  # type: ignore[arg-type]
