"""TLS from the names that Celery's `broker_use_ssl` has for other brokers; checks the broker's certificate unless told not to."""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

from federation.broker.errors import ConnectionLost, TlsFailed, TlsMisconfigured

_NAMES = ("ca_certs", "certfile", "keyfile", "password", "cert_reqs", "check_hostname", "server_hostname", "ciphers")
# A URL says it in words.
_REQUIREMENTS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def _read(given: Mapping[str, Any] | bool) -> dict[str, Any]:
    if isinstance(given, bool):
        return {}
    # redis-py's names begin with `ssl_`, py-amqp's do not.
    settings = {name.removeprefix("ssl_"): value for name, value in given.items() if value is not None}
    if unknown := sorted(settings.keys() - set(_NAMES)):
        raise TlsMisconfigured(f"unknown names {', '.join(unknown)}; known are {', '.join(_NAMES)}")
    return settings


def _requirement(value: Any) -> ssl.VerifyMode:
    try:
        return _REQUIREMENTS[value.lower().removeprefix("cert_")] if isinstance(value, str) else ssl.VerifyMode(value)
    except (KeyError, ValueError):
        raise TlsMisconfigured(f"cert_reqs is {value!r}; want one of {', '.join(_REQUIREMENTS)}") from None


def _load(context: ssl.SSLContext, settings: Mapping[str, Any]) -> None:
    try:
        if settings.get("ca_certs"):
            context.load_verify_locations(settings["ca_certs"])
        else:
            context.load_default_certs()
        if settings.get("certfile"):
            # With an empty password a locked key is an error; with none OpenSSL would ask on the terminal and wait.
            context.load_cert_chain(settings["certfile"], settings.get("keyfile"), settings.get("password") or "")
        if settings.get("ciphers"):
            context.set_ciphers(settings["ciphers"])
    except OSError as error:
        files = ", ".join(f"{name}={settings[name]!r}" for name in ("ca_certs", "certfile", "keyfile") if settings.get(name))
        raise TlsMisconfigured(f"cannot use {files or settings.get('ciphers')}: {error}") from error


def tls_context(given: Mapping[str, Any] | bool) -> tuple[ssl.SSLContext, str | None]:
    """Return a context, and the name to find in the broker's certificate if it is not the host of the URL.

    Raises TlsMisconfigured for an unknown name, or a file that cannot be used.
    """
    settings = _read(given)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    requirement = _requirement(settings.get("cert_reqs", ssl.CERT_REQUIRED))
    context.check_hostname = requirement != ssl.CERT_NONE and bool(settings.get("check_hostname", True))
    context.verify_mode = requirement
    _load(context, settings)
    return context, settings.get("server_hostname")


def secure(sock: socket.socket, host: str, address: str, tls: Mapping[str, Any] | bool) -> ssl.SSLSocket:
    """Do the handshake within the socket's time-out.

    Raises TlsMisconfigured, TlsFailed if either side does not trust the other, or ConnectionLost.
    """
    context, name = tls_context(tls)
    try:
        return context.wrap_socket(sock, server_hostname=name or host)
    except ssl.SSLEOFError as error:
        raise ConnectionLost(f"{address} closed the connection during the TLS handshake") from error
    except ssl.SSLCertVerificationError as error:
        raise TlsFailed(address, f"its certificate was not accepted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise TlsFailed(address, error.reason or str(error)) from error
    except TimeoutError as error:
        raise ConnectionLost(f"{address} did not finish the TLS handshake in time; does that connector speak TLS?") from error
    except OSError as error:
        raise ConnectionLost(f"{address} closed the connection during the TLS handshake: {error}") from error
