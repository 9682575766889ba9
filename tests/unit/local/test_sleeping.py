"""The supervisor waits for what has not ended, and for nothing that has."""

from pathlib import Path

from federation.local.home import Home
from federation.local.parts import Part
from federation.local.supervisor import Supervisor


def test_a_part_that_ended_while_it_was_pressed_to_is_not_waited_for(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.log("part").parent.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor([[Part(name="part", command=["true"])]], home)
    [slot] = supervisor._slots
    slot.start()
    assert slot.process is not None
    # As pressing does: whoever sends a signal asks first whether it has ended, and then nobody has its pid any more.
    slot.process.wait(60)
    supervisor._sleep([slot], 3600)
    assert slot.gone
