"""Who of a node's models is asked, and what happens when one fails, hangs or rests: with llama.cpp's real servers, killed and stopped."""

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from federation.breaker import Breaker
from federation.engines import openai
from federation.engines.contracts import Asked, ChatMessage, Completion, Halt, Halted, nobody
from federation.engines.routing import Outcome, Routed, Router, Source
from federation.errors import AnswerMisfits, ContextLengthError, EngineUnavailable, NotFound
from tests.model_servers import LlamaServer, llama_server

QUESTION = Asked([ChatMessage("user", "What is the capital of France?")], max_tokens=8)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with llama_server(tmp_path_factory.mktemp("sound"), name="sound") as started:
        yield started


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[LlamaServer]:
    """A server of another model by its name, for a test to break."""
    with llama_server(tmp_path, name="frail", model="Frail-1B", window=256) as started:
        yield started


def source(server: LlamaServer, *, is_small: bool = False, **times: float) -> Source:
    engine = server.client(**times)
    breaker = Breaker(first_s=0.2, longest_s=0.4)
    return Source(server.name, "openai", server.model, lambda: engine, is_small=is_small, places=2, queue=engine.queue, breaker=breaker)


def ask(router: Router, asked: Asked = QUESTION, *, check: Callable[[Completion], object] = bool, **more: Any) -> Routed:
    return router.ask(asked, hear_of=lambda _: nobody, halt=Halt(), check=check, **more)


def way(routed: Routed) -> list[tuple[str, Outcome]]:
    return [(step.name, step.outcome) for step in routed.steps]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_first_of_the_list_answers_and_the_receipt_says_so(sound: LlamaServer, frail: LlamaServer) -> None:
    routed = ask(Router([source(frail), source(sound)]))
    assert way(routed) == [("frail", "answered")]
    assert (routed.source.model, routed.steps[0].why) == ("Frail-1B", "it is the first of the list")
    assert routed.digest == sound.client().digest()


def test_killed_server_is_passed_over_rests_and_is_found_again_by_a_probe(sound: LlamaServer, frail: LlamaServer) -> None:
    router = Router([source(frail), source(sound)])
    frail.kill()
    routed = ask(router)
    assert way(routed) == [("frail", "failed"), ("sound", "answered")]
    assert "does not answer (Connection refused)" in routed.steps[0].why
    assert routed.steps[1].why == "those before it did not"
    assert way(ask(router)) == [("frail", "rests"), ("sound", "answered")]
    frail.start()
    until(lambda: way(ask(router)) == [("frail", "answered")])


def test_server_that_hangs_costs_one_limit_and_then_nothing(sound: LlamaServer, frail: LlamaServer) -> None:
    alone = Router([source(sound)])
    router = Router([source(frail, first_part_s=1.0, part_s=1.0), source(sound)])
    frail.send(signal.SIGSTOP)
    routed = ask(router)
    assert way(routed) == [("frail", "failed"), ("sound", "answered")]
    assert "hangs" in routed.steps[0].why

    def seconds(of: Router) -> float:
        started = time.monotonic()
        ask(of)
        return time.monotonic() - started

    # The probes that hang meanwhile are waited for by nobody.
    beside, bare = zip(*((seconds(router), seconds(alone)) for _ in range(20)), strict=True)
    assert all(way(ask(router))[0] == ("frail", "rests") for _ in range(3))
    assert statistics.median(beside) < 2 * statistics.median(bare) + 0.05
    frail.send(signal.SIGCONT)
    until(lambda: way(ask(router)) == [("frail", "answered")])


def test_server_that_hangs_in_the_middle_is_left_and_the_next_begins_anew(sound: LlamaServer, frail: LlamaServer) -> None:
    heard: dict[str, list[str]] = {}

    def hear_of(asked: Source) -> Callable[[str], None]:
        parts = heard.setdefault(asked.name, [])

        def hear(part: str) -> None:
            if asked.name == "frail" and not parts:
                frail.send(signal.SIGSTOP)
            parts.append(part)

        return hear

    story = Asked([ChatMessage("user", "Tell me a long story.")], max_tokens=60)
    routed = Router([source(frail, part_s=0.5), source(sound)]).ask(story, hear_of=hear_of, halt=Halt())
    assert way(routed) == [("frail", "failed"), ("sound", "answered")]
    assert heard["frail"]
    assert "".join(heard["sound"]) == routed.completion.text
    frail.send(signal.SIGCONT)


def test_where_all_have_failed_the_error_tells_of_each_and_one_that_rests_is_tried_when_nobody_else_answers(
    sound: LlamaServer, frail: LlamaServer
) -> None:
    only = Router([source(frail)])
    frail.kill()
    with pytest.raises(EngineUnavailable, match=r"model server frail .* does not answer"):
        ask(only)
    with pytest.raises(EngineUnavailable, match=r"no model of this node answers now \(frail: it failed a moment ago\); try again"):
        ask(only)
    frail.start()
    until(lambda: not only.named(None)[0].breaker.is_open)
    assert way(ask(only))[-1] == ("frail", "answered")


def test_model_that_is_asked_for_is_the_only_one_that_is_asked(sound: LlamaServer, frail: LlamaServer) -> None:
    router = Router([source(frail), source(sound)])
    assert way(ask(router, model=sound.model.upper())) == [("sound", "answered")]
    frail.kill()
    with pytest.raises(EngineUnavailable, match="frail"):
        ask(router, model="Frail-1B")
    with pytest.raises(NotFound, match=r"no chat engine 'Frail-2B'; nearest: Frail-1B"):
        ask(router, model="Frail-2B")


def test_prompt_over_one_window_goes_to_a_larger_one(sound: LlamaServer, frail: LlamaServer) -> None:
    router = Router([source(frail), source(sound)])
    long = Asked([ChatMessage("user", "word " * 350)], max_tokens=4)
    routed = ask(router, long)
    assert way(routed) == [("frail", "failed"), ("sound", "answered")]
    assert "the model's window is 256" in routed.steps[0].why
    assert way(ask(router))[0] == ("frail", "answered"), "a prompt that is too long is no fault of the server"
    with pytest.raises(ContextLengthError, match="the model's window is 512"):
        ask(router, Asked([ChatMessage("user", "word " * 900)]))


def test_answer_that_does_not_pass_is_asked_of_the_next_model(sound: LlamaServer, frail: LlamaServer) -> None:
    checked: list[Completion] = []

    def only_the_second(completion: Completion) -> None:
        checked.append(completion)
        if len(checked) == 1:
            raise AnswerMisfits("it says nothing of the colour")

    router = Router([source(frail), source(frail), source(sound)])
    routed = ask(router, check=only_the_second)
    assert way(routed) == [("frail", "failed"), ("sound", "answered")]
    assert "nothing of the colour" in routed.steps[0].why

    def none(_: Completion) -> None:
        raise AnswerMisfits("no")

    with pytest.raises(AnswerMisfits, match=r"^no answer will do \(frail: no; sound: no\)$"):
        ask(router, check=none)
    with pytest.raises(AnswerMisfits, match=r"^no$"):
        ask(Router([source(sound)]), check=none)


def test_what_is_halted_is_not_asked_of_the_next(sound: LlamaServer, frail: LlamaServer) -> None:
    halt = Halt()
    asked: list[str] = []

    def hear_of(one: Source) -> Callable[[str], None]:
        asked.append(one.name)
        return lambda _: halt.set()

    story = Asked([ChatMessage("user", "Tell me a long story.")], max_tokens=200)
    with pytest.raises(Halted):
        Router([source(frail), source(sound)]).ask(story, hear_of=hear_of, halt=halt)
    assert asked == ["frail"]


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[LlamaServer]:
    """A second server of the sound one's model."""
    with llama_server(tmp_path, name="twin") as started:
        yield started


def test_what_begins_alike_goes_to_one_server_of_a_model_where_it_is_cached(sound: LlamaServer, twin: LlamaServer) -> None:
    router = Router([source(sound), source(twin)])
    books = {f"book-{number}": f"Chapter {number}. " + "word " * 150 for number in range(8)}
    cached = sum(server.counted("prompt_tokens_cached_total") for server in (sound, twin))
    went: dict[str, set[str]] = {}
    tokens = 0
    for question in ("Who?", "Where?", "When?"):
        for key, book in books.items():
            routed = ask(router, Asked([ChatMessage("user", f"{book}{question}")], max_tokens=1), key=key)
            went.setdefault(key, set()).add(routed.source.name)
            assert routed.steps[0].why == "the beginning of the prompt is asked for there"
            tokens += routed.completion.prompt_tokens
    assert all(len(names) == 1 for names in went.values())
    assert {name for names in went.values() for name in names} == {"sound", "twin"}
    # What the servers say themselves; each has room for the prefixes of two requests at once, and for more in its memory.
    assert sum(server.counted("prompt_tokens_cached_total") for server in (sound, twin)) - cached > tokens / 3


def test_question_goes_past_a_long_queue(sound: LlamaServer, twin: LlamaServer) -> None:
    router = Router([source(sound), source(twin)])
    busy = ask(router, key="book").source.name
    full, free = (sound, twin) if busy == "sound" else (twin, sound)
    halt = Halt()
    story = Asked([ChatMessage("user", "Tell me a very long story.")], max_tokens=400)

    def load() -> None:
        with pytest.raises(Halted):
            # A story may end sooner than anybody looks at the queue.
            while True:
                full.client().complete(story, halt=halt)

    answers: list[Routed] = []

    def goes_past() -> bool:
        answers.append(ask(router, key="book"))
        return answers[-1].source.name == free.name

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(load) for _ in range(2)]
        try:
            # By its own account, and not by this router's, which did not ask that.
            until(lambda: full.client().queue() == 2)
            until(goes_past)
        finally:
            halt.set()
        for each in asking:
            each.result()
    assert answers[-1].steps[0].why == "its queue is the shortest"


def test_server_that_hangs_is_found_by_its_silence_about_its_queue(sound: LlamaServer, twin: LlamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "GLANCE_S", 0.5)
    twin.send(signal.SIGSTOP)
    routed = ask(Router([source(twin), source(sound)]))
    assert routed.source.name == "sound"
    assert way(routed) in ([("sound", "answered")], [("twin", "rests"), ("sound", "answered")])
    twin.send(signal.SIGCONT)


def test_small_model_is_asked_first_what_is_simple_and_a_larger_one_what_it_answers_badly(sound: LlamaServer, frail: LlamaServer) -> None:
    router = Router([source(sound), source(frail, is_small=True)])
    simple = ask(router)
    assert (simple.source.name, simple.steps[0].why) == ("frail", "a small model for a simple question")
    for asked in (Asked(QUESTION.messages, max_tokens=129), Asked([ChatMessage("user", "word " * 220)], max_tokens=4)):
        hard = ask(router, asked)
        assert (hard.source.name, hard.steps[0].why) == ("sound", "the question is not simple")

    def from_the_large(completion: Completion) -> None:
        if len(checked) == 0:
            checked.append(completion)
            raise AnswerMisfits("'city' is a required property")

    checked: list[Completion] = []
    escalated = ask(router, check=from_the_large)
    assert way(escalated) == [("frail", "failed"), ("sound", "answered")]
    assert "'city' is a required property" in escalated.steps[0].why


def test_while_one_asks_a_server_for_its_queue_others_go_by_what_it_said_before() -> None:
    asked, go = [], threading.Event()

    def queue() -> int:
        asked.append(1)
        go.wait(60)
        return 7

    one = Source("one", "openai", "m", lambda: None, queue=queue)  # type: ignore[arg-type,return-value]  # it is never asked anything else
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.depth)
        until(lambda: asked)
        assert [one.depth(), len(asked)] == [0, 1]
        go.set()
        assert first.result() == 7
    assert [one.depth(), len(asked)] == [7, 1]
