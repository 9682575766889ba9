"""The engine of model servers, against llama.cpp's real server: answers, limits, errors, and ends that nobody waits for."""

import http.server
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from federation.engines import smollm2
from federation.engines.contracts import Asked, ChatMessage, Halt, Halted
from federation.engines.openai import ModelServer
from federation.errors import ContextLengthError, EngineUnavailable, InvalidInput, ModelUnavailable
from tests.model_servers import MODEL, LlamaServer, llama_server

QUESTION = [ChatMessage("system", "You are a helpful assistant."), ChatMessage("user", "What is the capital of France?")]
LONG = Asked([ChatMessage("user", "Tell me a very long story.")], max_tokens=400)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with llama_server(tmp_path_factory.mktemp("served")) as started:
        yield started


def eventually(ask: Any) -> Any:
    deadline = time.monotonic() + 60
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_question_is_answered_in_parts_with_counts_and_times(server: LlamaServer) -> None:
    parts: list[str] = []
    completion = server.client().complete(Asked(QUESTION, max_tokens=32), hear=parts.append)
    assert "Paris" in completion.text
    assert "".join(parts) == completion.text
    assert len(parts) > 2
    assert (completion.finish_reason, completion.completion_tokens > 0, completion.prompt_tokens > 10) == ("stop", True, True)
    assert completion.first_part_s is not None
    assert 0 < completion.first_part_s < completion.seconds


def test_text_is_gone_on_with_stops_and_seeds_count(server: LlamaServer) -> None:
    text = [ChatMessage("user", "One, two, three, four,")]
    assert "five" in server.client().complete(Asked(text, max_tokens=8, raw=True)).text
    assert "seven" not in server.client().complete(Asked(text, max_tokens=16, raw=True, stop=["seven"])).text
    story = Asked([ChatMessage("user", "Tell me a story.")], max_tokens=8, temperature=1.0, seed=7)
    first, second = (server.client().complete(story).text for _ in range(2))
    assert first == second
    assert server.client().complete(story).finish_reason == "length"


def test_answer_has_the_form_of_a_schema(server: LlamaServer) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": False}
    completion = server.client().complete(Asked([ChatMessage("user", "Is it raining?")], schema=schema, max_tokens=40))
    assert completion.text.replace(" ", "").replace("\n", "") in {'{"yes":true}', '{"yes":false}'}


def test_prompt_over_the_window_is_refused_with_both_numbers(server: LlamaServer) -> None:
    with pytest.raises(ContextLengthError) as refusal:
        server.client().complete(Asked([ChatMessage("user", "word " * 900)]))
    assert refusal.value.window == 512 == server.client().window
    assert refusal.value.tokens > 900


def test_digest_is_what_the_server_says_of_its_file(server: LlamaServer) -> None:
    assert server.client().digest() == smollm2.checked().digest


def test_server_with_another_model_is_refused_by_what_it_has(server: LlamaServer) -> None:
    other = ModelServer("small", url=f"{server.url}/v1", model="Qwen")
    with pytest.raises(ModelUnavailable, match=f"does not have Qwen .it has {MODEL}.; correct `model`"):
        other.digest()


def test_schema_that_the_server_does_not_know_is_invalid_input(server: LlamaServer) -> None:
    with pytest.raises(InvalidInput, match="unrecognized type"):
        server.client().complete(Asked(QUESTION, schema={"type": "wrong"}))


def test_nobody_at_the_address_is_told_with_the_remedy(tmp_path: Path) -> None:
    away = LlamaServer(tmp_path)
    with pytest.raises(EngineUnavailable, match=r"model server small .* does not answer .*start it .federation model serve small."):
        away.client().complete(Asked(QUESTION))
    assert not away.client().is_healthy()


def test_server_that_wants_a_key_gets_the_one_in_the_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    with llama_server(tmp_path, key_file=key) as locked:
        assert locked.client(key_file=key).complete(Asked(QUESTION, max_tokens=4)).completion_tokens
        with pytest.raises(ModelUnavailable, match=r"wants a key .401.*key_file"):
            locked.client().complete(Asked(QUESTION, max_tokens=4))
        with pytest.raises(ModelUnavailable, match="its key cannot be read"):
            locked.client(key_file=tmp_path / "nowhere").complete(Asked(QUESTION))


def test_server_that_hangs_is_left_after_the_time_that_is_set(tmp_path: Path) -> None:
    with llama_server(tmp_path) as stopped:
        parts: list[str] = []

        def stop_it(part: str) -> None:
            if not parts:
                stopped.send(signal.SIGSTOP)
            parts.append(part)

        with pytest.raises(EngineUnavailable, match="hangs: it said nothing for too long"):
            stopped.client(part_s=0.5).complete(LONG, hear=stop_it)
        assert parts
        with pytest.raises(EngineUnavailable, match="hangs"):
            stopped.client(first_part_s=0.5).complete(LONG)
        stopped.send(signal.SIGCONT)


def test_server_that_dies_in_the_middle_is_told(tmp_path: Path) -> None:
    with llama_server(tmp_path) as dying, pytest.raises(EngineUnavailable, match=r"broke off|does not answer"):
        dying.client().complete(LONG, hear=lambda _: dying.kill())


def test_what_is_done_meanwhile_comes_before_the_first_part_and_what_it_raises_ends_the_answer(server: LlamaServer) -> None:
    told: list[str] = []
    server.client().complete(Asked(QUESTION, max_tokens=4), hear=told.append, meanwhile=lambda: told.append("meanwhile"))
    assert (told.index("meanwhile"), told.count("meanwhile")) == (0, 1)

    def refuse() -> None:
        assert eventually(server.busy), "the question is on its way"
        raise ModelUnavailable("it has another model by now")

    parts: list[str] = []
    with pytest.raises(ModelUnavailable, match="another model"):
        server.client().complete(LONG, hear=parts.append, meanwhile=refuse)
    assert not parts
    eventually(lambda: server.busy() == 0)


@pytest.mark.parametrize("begun", [True, False], ids=["while it speaks", "before it speaks"])
def test_what_is_halted_ends_here_and_on_the_server(server: LlamaServer, begun: bool) -> None:
    halt, spoke = Halt(), threading.Event()
    ended: list[BaseException] = []

    def ask() -> None:
        prompt = LONG if begun else Asked([ChatMessage("user", "word " * 450)], max_tokens=50)
        try:
            server.client().complete(prompt, hear=lambda _: spoke.set(), halt=halt)
        except Halted as error:
            ended.append(error)

    before = server.counted("tokens_predicted_total")
    asking = threading.Thread(target=ask)
    asking.start()
    assert spoke.wait(60) if begun else eventually(server.busy)
    halt.set()
    asking.join(60)
    assert len(ended) == 1
    eventually(lambda: server.busy() == 0)
    assert server.counted("tokens_predicted_total") - before < 400
    with pytest.raises(Halted):
        server.client().complete(LONG, halt=halt)


class _Says(http.server.BaseHTTPRequestHandler):
    """Answers as vLLM and proxies do, word for word, where llama.cpp has other words."""

    status, body = 200, b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None: ...


VLLM = b"""{"error":{"message":"This model's maximum context length is 2048 tokens. However, you requested 3256 tokens (3000 in the messages, """
NEWER = b"""{"error":{"message":"You passed 3000 input tokens and requested 256 output tokens. However, the model's maximum context length is 2048 """


@contextmanager
def saying(status: int, body: bytes) -> Iterator[ModelServer]:
    """Start a server that says this, and yield its client."""
    says = type("Says", (_Says,), {"status": status, "body": body})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), says) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        try:
            yield ModelServer("other", url=f"http://127.0.0.1:{other.server_address[1]}/v1", model="m")
        finally:
            other.shutdown()


_USAGE = b'"usage":{"prompt_tokens":1,"completion_tokens":1}'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (rb"a\u0000b", "a\ufffdb"),
        (rb"a\ud800b", "a\ufffdb"),
        (b"a\xed\xa0\x80b", "a\ufffd\ufffd\ufffdb"),
        (rb"a\ud83d\ude00b", "a\U0001f600b"),
        ("grün".encode(), "grün"),
    ],
)
def test_what_no_text_can_hold_is_replaced_in_an_answer(content: bytes, text: str) -> None:
    parts: list[str] = []
    body = b'data: {"choices":[{"delta":{"content":"%s"},"finish_reason":"stop"}],%s}\n\n' % (content, _USAGE)
    with saying(200, body) as client:
        assert client.complete(Asked(QUESTION), hear=parts.append).text == text
    assert parts == [text]


@pytest.mark.parametrize("body", [b"data: \0\xed\xa0\x80 what\n\n", rb'data: {"error":{"message":"\u0000\ud800 what"}}'])
def test_what_no_text_can_hold_is_replaced_in_an_error(body: bytes) -> None:
    with saying(200, body) as client, pytest.raises(EngineUnavailable, match=r"\ufffd+ what") as told:
        client.complete(Asked(QUESTION))
    assert "\0" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (400, VLLM + b"""256 in the completion).","code":400}}""", ContextLengthError, "3000 tokens and the model's window is 2048"),
        (400, NEWER + b"""tokens.","code":400}}""", ContextLengthError, "3000 tokens and the model's window is 2048"),
        (429, b"slow down", EngineUnavailable, "too much to do .429: slow down"),
        (500, b"<html>oops</html>", EngineUnavailable, "failed .500: <html>oops"),
        (404, b'{"detail":"Not Found"}', ModelUnavailable, "does not have it"),
        (200, b'data: {"choices":[{"delta":{"content":"So"}}]}\n\n', EngineUnavailable, "broke off in the middle"),
        (200, b'data: {"error":{"message":"no room","code":500}}\n\n', EngineUnavailable, "no room"),
        (200, b"data: what\n\n", EngineUnavailable, "what"),
    ],
)
def test_what_other_servers_say_is_understood(status: int, body: bytes, error: type[Exception], said: str) -> None:
    with saying(status, body) as client, pytest.raises(error, match=said):
        client.complete(Asked(QUESTION))


@pytest.mark.parametrize("status", [200, 500])
def test_of_many_who_ask_at_once_what_a_server_has_one_asks_for_all_and_who_comes_later_asks_anew(status: int) -> None:
    at_once, asked, go = 8, [], threading.Event()

    class Has(_Says):
        def do_GET(self) -> None:
            asked.append(self.path)
            go.wait(60)
            body = b'{"data": [{"id": "m", "max_model_len": %d}]}' % len(asked)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Has) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        try:
            client = ModelServer("other", url=f"http://127.0.0.1:{other.server_address[1]}/v1", model="m")
            found: list[Any] = []

            def ask() -> None:
                try:
                    found.append(client.served())
                except EngineUnavailable as error:
                    found.append(error)

            asking = [threading.Thread(target=ask) for _ in range(at_once)]
            for thread in asking:
                thread.start()
            eventually(lambda: asked)
            # Whoever has not come to wait by then asks once more, and no more than one does.
            go.set()
            for thread in asking:
                thread.join(60)
            assert len(asked) <= 2
            assert len(found) == at_once
            assert all(isinstance(each, EngineUnavailable) is (status == 500) for each in found)
            before = len(asked)
            ask()
            assert len(asked) == before + 1
        finally:
            other.shutdown()
