"""Who acts at the command line: the account that the process runs as, whatever its environment says."""

import os
import pwd

import pytest

from federation.local.person import fit, named, person


def test_variables_of_the_environment_do_not_say_who_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "nora")
    assert person() == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def test_account_without_a_name_is_its_number() -> None:
    nameless = next(uid for uid in range(61_000, 65_000) if uid not in {entry.pw_uid for entry in pwd.getpwall()})
    assert named(nameless) == f"uid-{nameless}"


@pytest.mark.parametrize("name", ["nora", "_apt", "nora.lind", "nora@lab.example", "N0ra-2", "n" * 64])
def test_name_of_an_account_is_that_of_who_acts(name: str) -> None:
    assert fit(name, 1234) == name


@pytest.mark.parametrize("name", ["", "eve\nroot", "LAB\\nora", "../../x", "nora lind", "n" * 65, "nora\n", "Žofie", "\x1b[31m", "a:b", "uid-0"])
def test_name_that_a_log_or_a_file_could_not_bear_is_the_number(name: str) -> None:
    assert fit(name, 1234) == "uid-1234"
