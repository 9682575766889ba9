"""Where the keys of the organisation's issuer are: a file with a public key, or the URL of its JWKS; fetches nothing."""

from pathlib import Path
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from federation.errors import SettingsError
from federation.settings import Settings

# The kind of key of each family of algorithms, by the first two letters of its name.
_KEYS = {"RS": RSAPublicKey, "PS": RSAPublicKey, "ES": EllipticCurvePublicKey, "Ed": Ed25519PublicKey}


def issuer_keys(config: Settings) -> bytes | str | None:
    """Return the issuer's public key in PEM, or the URL of its JWKS; None where the settings name no issuer.

    Raises SettingsError for keys that cannot be used, for an issuer without keys and for keys without an issuer.
    """
    if config.jwt_issuer is None and config.jwt_keys is None:
        return None
    if config.jwt_issuer is None or config.jwt_keys is None:
        raise SettingsError("FEDERATION_JWT_ISSUER and FEDERATION_JWT_KEYS belong together: set both or none")
    return config.jwt_keys if _is_web(config.jwt_keys) else _pem(Path(config.jwt_keys), config.jwt_algorithm)


def _is_web(keys: str) -> bool:
    url = urlsplit(keys)
    # Whoever can change the keys on their way can be anybody.
    if url.scheme == "http" and url.hostname not in {"127.0.0.1", "::1", "localhost"}:
        raise SettingsError(f"FEDERATION_JWT_KEYS: got {keys!r}, wants https, or a file")
    return url.scheme in {"http", "https"}


def _pem(path: Path, algorithm: str) -> bytes:
    if not path.is_absolute():
        raise SettingsError(f"FEDERATION_JWT_KEYS: got {str(path)!r}, wants an absolute path of a public key in PEM, or a URL")
    try:
        pem = path.read_bytes()
        key = load_pem_public_key(pem)
    except OSError as error:
        raise SettingsError(f"FEDERATION_JWT_KEYS: {path} cannot be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"FEDERATION_JWT_KEYS: {path} holds no public key in PEM") from error
    if not isinstance(key, _KEYS[algorithm[:2]]):
        raise SettingsError(f"FEDERATION_JWT_KEYS: {path} holds a {type(key).__name__}, which signs nothing by FEDERATION_JWT_ALGORITHM={algorithm}")
    return pem
