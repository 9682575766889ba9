"""The root of this package's own errors; nothing of the program that uses it is imported."""


class ResultsError(Exception):
    """Root of the errors of the result backend; its text says what to do next."""


class ListenerEnded(ResultsError):
    """The listener is closed, so that nobody would ever be woken; open `Notifications` again."""


class WrongUrl(ResultsError):
    """The URL of the backend is of another kind or holds a parameter that does not fit."""


class IdRefused(ResultsError, ValueError):
    """No result could be stored under this id of a task, so the task is not sent."""


class NotUsable(ResultsError):
    """PostgreSQL answers, and keeps no result until something is set right: no outage that passes by itself."""


class NotLetIn(NotUsable):
    """PostgreSQL answers, and has no such database or role, or takes not this password."""


class NoTables(NotUsable):
    """The tables of the results are not where the backend looks for them, or its role may not use them."""
