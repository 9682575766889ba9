"""Files that look like keys or passwords, by their name or by what is in them: they are listed, and not indexed."""

import re
from fnmatch import fnmatchcase
from typing import Final

# Of data only: a module may be called secrets.py, and says how they are kept.
_DATA: Final = ("", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".xml", ".csv", ".txt", ".properties", ".env")
_NAMES: Final = frozenset(
    {
        *(f"{name}{suffix}" for name in ("credential", "credentials", "secret", "secrets", "password", "passwords") for suffix in _DATA),
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", ".netrc", "_netrc", ".pgpass", "pgpass.conf", ".htpasswd"),
        *("htpasswd", ".npmrc", ".pypirc", ".git-credentials", ".dockercfg", ".dockerconfigjson", "kubeconfig", ".vault-token", ".s3cfg", ".boto"),
        *("shadow", "gshadow", "master.key", "service-account.json", "service_account.json"),
    }
)
_PATTERNS: Final = (
    *(".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.pkcs12", "*.jks", "*.keystore", "*.kdb", "*.kdbx", "*.ppk", "*.ovpn"),
    *("*.tfstate", "*.tfstate.backup", "*.tfvars", "client_secret*.json", "*.agekey", "*.asc.key"),
)
_BLOCK: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(.{0,500})", re.DOTALL)
# A name of such a block in a program or a text has no key behind it.
_KEY: Final = re.compile(rb"[A-Za-z0-9+/=]{40}")
_LINES: Final = re.compile(rb"^(?:PuTTY-User-Key-File-\d|AGE-SECRET-KEY-1[A-Z0-9]{20})", re.MULTILINE)


def by_name(name: str) -> str | None:
    """Return why a file of this name is not even opened, None if its name says nothing."""
    lower = name.lower()
    if lower in _NAMES or any(fnmatchcase(lower, pattern) for pattern in _PATTERNS):
        return "looks like a secret: by its name"
    return None


def by_content(content: bytes) -> str | None:
    """Return why a file with this content is not indexed, None if there is no private key in it."""
    if b"KEY" not in content:
        return None
    if any(_KEY.search(block[1]) for block in _BLOCK.finditer(content)) or _LINES.search(content):
        return "looks like a secret: it has a private key"
    return None
