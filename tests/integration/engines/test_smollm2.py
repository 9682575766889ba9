"""SmolLM2-135M by llama.cpp: the plumbing; its prose is not judged."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from federation.engines.contracts import Asked, ChatEngine, ChatMessage, Halt, Halted
from federation.engines.digests import Weights
from federation.engines.llamacpp import LlamaCpp
from federation.engines.smollm2 import PARALLEL, WINDOW
from federation.errors import ContextLengthError, InvalidInput, ModelUnavailable

QUESTION = [ChatMessage("system", "You are a helpful assistant."), ChatMessage("user", "What is the capital of France?")]


def test_simple_question_is_answered_with_its_counts(smollm2: ChatEngine) -> None:
    completion = smollm2.complete(Asked(QUESTION, max_tokens=32))
    assert "Paris" in completion.text
    assert completion.finish_reason == "stop"
    assert 0 < completion.completion_tokens < 32 < completion.prompt_tokens + 32
    assert completion.seconds > 0


def test_limit_of_tokens_cuts_the_answer_and_says_so(smollm2: ChatEngine) -> None:
    completion = smollm2.complete(Asked([ChatMessage("user", "Count from one to a hundred in words.")], max_tokens=5))
    assert (completion.completion_tokens, completion.finish_reason) == (5, "length")


def test_stop_word_ends_the_answer_before_it(smollm2: ChatEngine) -> None:
    completion = smollm2.complete(Asked(QUESTION, max_tokens=32, stop=["Paris"]))
    assert "Paris" not in completion.text
    assert completion.finish_reason == "stop"


def test_same_seed_gives_the_same_answer(smollm2: ChatEngine) -> None:
    story = [ChatMessage("user", "Tell me a story.")]
    first, second = (smollm2.complete(Asked(story, max_tokens=12, temperature=1.0, seed=7)).text for _ in range(2))
    assert first == second


def test_prompt_over_the_window_is_refused_with_both_numbers(smollm2: ChatEngine) -> None:
    with pytest.raises(ContextLengthError) as refusal:
        smollm2.complete(Asked([ChatMessage("user", "word " * 3000)]))
    assert refusal.value.window == WINDOW
    assert refusal.value.tokens > 3000


def test_several_requests_at_once_are_all_answered(smollm2: ChatEngine) -> None:
    with ThreadPoolExecutor(2 * PARALLEL) as pool:
        answers = list(pool.map(lambda _: smollm2.complete(Asked(QUESTION, max_tokens=16)), range(2 * PARALLEL)))
    assert all(answer.completion_tokens > 0 for answer in answers)


def test_request_that_makes_no_sense_is_refused(smollm2: ChatEngine) -> None:
    with pytest.raises(InvalidInput, match="messages"):
        smollm2.complete(Asked([]))
    with pytest.raises(InvalidInput, match="max_tokens: got 0"):
        smollm2.complete(Asked(QUESTION, max_tokens=0))


def test_port_of_the_runner_answers_nobody_without_its_key(smollm2: ChatEngine) -> None:
    assert isinstance(smollm2, LlamaCpp)
    address = smollm2._server.listening_address
    assert address.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(address + "/v1/models", timeout=10)


def test_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelUnavailable, match=r"broken\.gguf"):
        LlamaCpp(Weights(broken, "0" * 64), name="broken", window=128, parallel=1, threads=1)


def test_digest_is_a_sha256(smollm2: ChatEngine) -> None:
    assert len(bytes.fromhex(smollm2.digest())) == 32


def test_answer_comes_in_parts_and_ends_when_nobody_wants_it(smollm2: ChatEngine) -> None:
    parts: list[str] = []
    completion = smollm2.complete(Asked(QUESTION, max_tokens=32), hear=parts.append)
    assert "".join(parts) == completion.text
    assert len(parts) > 2
    halt = Halt()
    with pytest.raises(Halted):
        smollm2.complete(Asked(QUESTION, max_tokens=400), hear=lambda _: halt.set(), halt=halt)
    with pytest.raises(ZeroDivisionError):
        smollm2.complete(Asked(QUESTION, max_tokens=400), hear=lambda _: 1 // 0)


def test_answer_has_the_form_of_a_schema(smollm2: ChatEngine) -> None:
    completion = smollm2.complete(Asked(QUESTION, max_tokens=32, schema={"enum": ["Paris", "Rome"]}))
    assert completion.text in {'"Paris"', '"Rome"'}
    # A schema that says nothing of the form: any JSON.
    assert json.loads(smollm2.complete(Asked(QUESTION, max_tokens=100, schema={})).text)
    with pytest.raises(InvalidInput, match="unrecognized type"):
        smollm2.complete(Asked(QUESTION, schema={"type": "wrong"}))
