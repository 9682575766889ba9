"""The URL of the result backend as a value; reads no setting and opens no connection."""

import difflib
import math
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from psycopg.pq import Conninfo

from federation.results.errors import WrongUrl
from federation.results.patience import patience

_OWN = {"schema", "channel", "recheck", "connections"}
# Of libpq's own, it leaves out this one, which it takes for the sake of JDBC's URLs.
_LIBPQ = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"ssl"}
# Seconds: poll() counts milliseconds in an int.
_MOST = 2_000_000


@dataclass(frozen=True)
class Options:
    """Where results are kept and how they are waited for.

    `conninfo` is libpq's URI; `recheck_s` is the time between two looks for results whose notification was lost;
    `connections` bounds the connections of one process, its listener not counted.
    """

    conninfo: str
    schema: str | None = None
    channel: str = "celery_results"
    recheck_s: float = 5.0
    connections: int = 8


def parse(url: str) -> Options:
    """Return the options of `[pgnotify+]postgresql://user:password@host:port/database?schema=&channel=&recheck=&connections=`.

    All other parameters go to libpq. Raises WrongUrl for a URL of another kind, or a parameter that nobody knows or that is out of range.
    """
    parts = urlsplit(url.removeprefix("pgnotify+"))
    if parts.scheme not in {"postgresql", "postgres"}:
        raise WrongUrl(f"the result backend got a URL with the scheme {parts.scheme!r}; it wants pgnotify+postgresql://…")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    own = {name: given.pop(name) for name in _OWN & given.keys()}
    for name in given.keys() - _LIBPQ:
        raise WrongUrl(f"{name!r} in the URL of the result backend is no parameter of it nor of libpq{_nearest(name)}")
    # Not with a plus for a blank, which libpq does not read so.
    query = urlencode(patience(given) | given, quote_via=quote)
    conninfo = urlunsplit(("postgresql", parts.netloc, parts.path, query, ""))
    return Options(
        conninfo=conninfo,
        schema=own.get("schema"),
        channel=own.get("channel", Options.channel),
        recheck_s=_positive("recheck", own.get("recheck"), float(Options.recheck_s)),
        connections=int(_positive("connections", own.get("connections"), Options.connections)),
    )


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), sorted(_OWN | _LIBPQ), n=1)
    return f"; did you mean {near[0]}?" if near else f"; its own are {', '.join(sorted(_OWN))}"


def _positive(name: str, text: str | None, default: float) -> float:
    try:
        number = default if text is None else float(text)
    except ValueError as error:
        raise WrongUrl(f"{name} in the URL of the result backend: got {text!r}, wants a number") from error
    if math.isnan(number) or number > _MOST:
        raise WrongUrl(f"{name} in the URL of the result backend: got {text!r}, wants a number up to {_MOST}")
    # Below one, `connections` would be none at all, and `recheck` would be polling.
    if number < (1 if name == "connections" else 0.05):
        raise WrongUrl(f"{name} in the URL of the result backend: got {text!r}, which is too small")
    return number
