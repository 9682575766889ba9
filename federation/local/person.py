"""Who runs this process, known from the operating system's user id alone; believes no variable of the environment."""

import os
import pwd
import re

# It stands in the log, in statements and in the name of a key's file. No account with a name is called as one without is.
_NAME = re.compile(r"(?!uid-)[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")


def person() -> str:
    """Return who acts at the command line, as `cli:nora`: the account of the user id, or `cli:uid-1234` where it has no fit name.

    `LOGNAME` and `USER`, which anybody may set, say nothing. Under `sudo` that is `root`.
    """
    return f"cli:{named(os.getuid())}"


def named(uid: int) -> str:
    """Return what the account database calls this user id, if that is fit for the name of an actor."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        # A container may run as a user without a name.
        return f"uid-{uid}"
    return fit(name, uid)


def fit(name: str, uid: int) -> str:
    """Return the name of an account as that of an actor, or its user id where the name has not that form."""
    return name if _NAME.fullmatch(name) else f"uid-{uid}"
