"""Which headers say who sends, told by their names; reads no value, and believes none.

A rule and not a list, because whoever believes that a header says who he is chooses its name himself: it ends with a word for one who acts,
or with that and a word for what he is called by, such as `x-agent`, `sender-id`, `X-Auth-Request-User`, `Impersonate-User` or `x-on-behalf-of`.
What proxies, browsers and tracers add says which way a request went, and ends otherwise: `x-forwarded-for`, `x-real-ip`, `via`, `x-request-id`.
"""

import re

_WHO = (
    "(?<!user[-_.])agent|actor|sender|caller|user|principal|author|identity|impersonate|on[-_.]behalf[-_.]of"
    "|act[-_.]as|run[-_.]as|(?<!bucket[-_.])owner"
)
_CALLED = "id|uid|name|login|e?mail"
# `User-Agent` names a program, and `Sec-…` is the browser's own: `Sec-Fetch-User` tells of a click. `From` is whom to write to (RFC 9110).
# `X-Amz-Expected-Bucket-Owner` names whose a bucket is. A proxy that has asked somebody else who it is says so in these too.
_FORWARDED = "(?:.*[-_.])?(?:forwarded|remote|request)[-_.]?(?:login|e?mail)"
_CLAIMING = re.compile(rf"(?!sec-)(?:.*[-_.])?(?:{_WHO})(?:[-_.]?(?:{_CALLED}))?|x[-_.]from|{_FORWARDED}", re.IGNORECASE)


def claims_sender(header: str) -> bool:
    """Return whether a header of this name says who sends, in HTTP or in STOMP."""
    return _CLAIMING.fullmatch(header) is not None
