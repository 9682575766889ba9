"""The errors a caller may meet, split by what it should do: try again later, or change the request."""

import math
import reprlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


class FederationError(Exception):
    """Root of all our errors; its text says what to do next."""


class TransientError(FederationError):
    """The same call may succeed later; executions retry exactly this branch."""


class PermanentError(FederationError):
    """The same call will never succeed."""


class InvalidInput(PermanentError):
    """A value does not fit; names the field, what it got and what it wants."""

    def __init__(self, field: str, got: object, wants: str) -> None:
        self.field, self.got, self.wants = field, got, wants
        super().__init__(f"{field}: got {reprlib.repr(got) if len(repr(got)) > 200 else repr(got)}, wants {wants}")


# Of many; so few more are all shown, because to count them says less.
_SHOWN, _ALL = 5, 8


class NotFound(PermanentError):
    """Something named does not exist; names it and the nearest that do, or some of them; of what nobody could list, only itself."""

    def __init__(self, kind: str, name: str, existing: Iterable[str] | None = None) -> None:
        self.kind, self.name = kind, name
        known = sorted(set(existing or ()))
        near = get_close_matches(name, known, n=3, cutoff=0.4)
        self.nearest: Sequence[str] = near or (known if len(known) <= _ALL else known[:_SHOWN])
        if near:
            hint = f"; nearest: {', '.join(near)}"
        elif known:
            more = f" and {len(known) - len(self.nearest)} more" if len(known) > len(self.nearest) else ""
            hint = f"; there is {', '.join(self.nearest)}{more}"
        else:
            hint = "" if existing is None else f"; there is no {kind} yet"
        super().__init__(f"no {kind} {name[:200]!r}{hint}")


class Conflict(PermanentError):
    """The request contradicts what is already recorded."""


class Equivocation(Conflict):
    """Somebody signed the contrary of what he signed before: nothing follows of it, and both signatures are kept.

    The only error with which a transaction commits.
    """


class Refused(PermanentError):
    """The caller may not do this; names the principle and what to do instead."""

    def __init__(self, principle: str, remedy: str) -> None:
        self.principle, self.remedy = principle, remedy
        super().__init__(f"{principle} {remedy}")


class OverQuota(Refused):
    """An agent has as much as one may have; names the setting that says how much."""

    def __init__(self, principle: str, remedy: str, setting: str) -> None:
        self.setting = setting
        super().__init__(principle, f"{remedy} (The limit is the operator's: {setting}.)")


class RateLimited(TransientError):
    """An agent is faster than one may be; says when it may go on, and names the setting that says how fast."""

    def __init__(self, principle: str, setting: str, again_in_s: float) -> None:
        self.setting, self.again_in_s = setting, again_in_s
        super().__init__(f"{principle}, and has; call again in {math.ceil(again_in_s)} s (the limit is the operator's: {setting})")


class Unauthenticated(PermanentError):
    """No valid token came with the call."""


class ContextLengthError(PermanentError):
    """A text is longer than the model's window."""

    def __init__(self, tokens: int, window: int) -> None:
        self.tokens, self.window = tokens, window
        super().__init__(f"the text has {tokens} tokens and the model's window is {window}; shorten it")


class AnswerMisfits(PermanentError):
    """A model's answer is not what was asked for, such as the JSON of a schema, or a summary without inventions."""


class ModelUnavailable(PermanentError):
    """A model or its runner is not installed on this machine."""


class WeightsUnknown(ModelUnavailable):
    """Nobody has vouched for the files of a model."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        super().__init__(f"{root}: no digest of {name} is known, so it is not loaded; if you trust these files: federation model add {name} {root}")


class WeightsChanged(ModelUnavailable):
    """A file of a model is not the one that is known; it is not loaded. `expected` None: not one of its files; `found` None: not there."""

    def __init__(self, name: str, path: Path, *, expected: str | None, found: str | None, root: Path) -> None:
        self.name, self.path, self.expected, self.found = name, path, expected, found
        wants = f"SHA-256 {expected}" if expected else "no such file"
        super().__init__(
            f"{path}: got {f'SHA-256 {found}' if found else 'no file'}, wants {wants} for {name}, which is not loaded; install the model again, "
            f"or, if you changed it and trust it: federation model add {name} {root}"
        )


class ContentChanged(PermanentError):
    """The file of an artifact is not what was put, so nothing of it is shown. `found` None: there is none."""

    def __init__(self, expected: str, found: str | None) -> None:
        self.expected, self.found = expected, found
        got = f"a file with SHA-256 {found}" if found else "no file"
        elsewhere = "it was removed, or the folder of artifacts is another one here, or not mounted (`federation doctor`)"
        why = "it was altered" if found else elsewhere
        super().__init__(f"the content: got {got}, wants SHA-256 {expected}: {why}; put the same content again, or bring the file back from a copy")


class ContentsUnavailable(TransientError):
    """The folder of artifacts cannot be read or written."""


class EngineUnavailable(TransientError):
    """A model server did not answer; the same call may succeed later."""


class BrokerUnavailable(TransientError):
    """ActiveMQ did not take the message; the work is recorded and will be sent."""


class DatabaseUnavailable(TransientError):
    """PostgreSQL does not answer."""


class IssuerUnavailable(TransientError):
    """The organisation's issuer does not tell its keys, so nobody can say whether a JWT is valid."""


class SettingsError(PermanentError):
    """A setting stops the start; the text names each variable, what it got and what it wants."""


class LocalServiceError(PermanentError):
    """A local service cannot be had or started; the text names the ways out."""
