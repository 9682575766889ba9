"""Asking for a ranking over a socket: what is asked comes, what does not answer is done without."""

import asyncio
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.delivery import ranker
from federation.delivery.ranker import Listener, Question, Ranked, ask

ASKED = Question("wo ist «öffnen»?\n", 50, ["/srv/a", "b"], path="src/", language="python", kind="method")


def answer(question: Question) -> Ranked:
    if question.query == "fail":
        raise RuntimeError("no model")
    return Ranked("aorus", [(question.query, 0.5, ["meaning", "words"])], deeper=question == ASKED)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    listener = Listener(tmp_path / "vectors" / "ranker", answer, threads=2)
    listener.start()
    yield tmp_path / "vectors" / "ranker"
    listener.stop()


def asked(path: Path, question: Question = ASKED) -> Ranked | None:
    return asyncio.run(ask(path, question))


def test_question_and_answer_come_as_they_were_given(listening: Path) -> None:
    assert asked(listening) == Ranked("aorus", [("wo ist «öffnen»?\n", 0.5, ["meaning", "words"])], deeper=True)


def test_nobody_but_its_user_may_connect(listening: Path) -> None:
    assert stat.S_IMODE(listening.stat().st_mode) == 0o600
    assert stat.S_IMODE(listening.parent.stat().st_mode) == 0o700


def test_many_ask_at_once(listening: Path) -> None:
    async def all_at_once() -> list[Ranked | None]:
        return await asyncio.gather(*(ask(listening, Question(str(number), 1, [])) for number in range(50)))

    assert [found and found.chunks[0][0] for found in asyncio.run(all_at_once())] == [str(number) for number in range(50)]


def test_where_nobody_answers_there_is_no_ranking(listening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(listening, Question("fail", 1, [])) is None
    assert asked(tmp_path / "nothing") is None
    monkeypatch.setattr(ranker, "WITHIN_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        assert asked(tmp_path / "silent") is None


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"\xff\n", b'{"query": 1}\n', b""])
def test_what_is_no_question_ends_no_thread(listening: Path, line: bytes) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as foreign, foreign.makefile("rb") as answers:
            foreign.connect(str(listening))
            foreign.sendall(line)
            foreign.shutdown(socket.SHUT_WR)
            assert "error" in json.loads(answers.readline())
    assert asked(listening) is not None


def test_who_comes_later_takes_the_place_and_keeps_it_when_the_former_goes(tmp_path: Path) -> None:
    path = tmp_path / "ranker"
    former, later = (Listener(path, lambda _, node=node: Ranked(node, [], deeper=False), threads=1) for node in ("former", "later"))
    former.start()
    # As one that was killed left it, too.
    later.start()
    former.stop()
    assert asked(path) == Ranked("later", [], deeper=False)
    later.stop()
    assert not path.exists()


def test_folder_whose_name_is_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    listener = Listener(tmp_path / ("x" * 100) / "ranker", answer, threads=1)
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        listener.start()
