"""What looks like a key or a password is listed and not indexed; what only speaks of them is."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from federation.vectors import secret_files
from federation.vectors.chunking import chunk_file
from federation.vectors.scan import scan
from federation.vectors.sources import Skipped

PEM, CLEAR = serialization.Encoding.PEM, serialization.NoEncryption()
FORMS = serialization.PrivateFormat


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.production", "prod.env", "server.pem", "server.key", "id_rsa", "ID_ED25519", "credentials", "credentials.json"),
        *("secrets.yaml", ".netrc", ".pgpass", ".npmrc", "store.jks", "vault.kdbx", "main.tfstate", "client_secret_42.json"),
    ],
)
def test_a_file_whose_name_says_so_is_listed_and_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello")
    (tmp_path / name).chmod(0)
    found = scan(tmp_path)
    assert found.files == ()
    assert [(refusal.path, refusal.reason) for refusal in found.skipped] == [(name, "looks like a secret: by its name")]


@pytest.mark.parametrize("name", ["secrets.py", "credentials.py", "environment.md", "keys.py", "id_rsa.pub", "test_secrets.json", "monkey"])
def test_a_file_that_is_about_secrets_is_indexed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("how keys are kept")
    assert [file.path for file in scan(tmp_path).files] == [name]


@pytest.mark.parametrize("form", [FORMS.TraditionalOpenSSL, FORMS.PKCS8, FORMS.OpenSSH], ids=["openssl", "pkcs8", "openssh"])
@pytest.mark.parametrize("made", [lambda: rsa.generate_private_key(65537, 2048), lambda: ec.generate_private_key(ec.SECP256R1())], ids=["rsa", "ec"])
def test_a_private_key_is_seen_in_any_file(tmp_path: Path, made, form) -> None:
    key = made().private_bytes(PEM, form, CLEAR)
    assert secret_files.by_content(key)
    for name, content in {
        "notes.md": b"# Keys\n\n" + key,
        "config.yaml": b"key: |\n" + b"".join(b"  " + line + b"\n" for line in key.splitlines()),
        "module.py": b"KEY = " + repr(key.decode()).encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
        refusal = chunk_file(name, content)
        assert isinstance(refusal, Skipped)
    found = scan(tmp_path)
    assert found.files == ()
    assert {refusal.reason for refusal in found.skipped} == {"looks like a secret: it has a private key"}


def test_the_name_of_a_block_alone_and_public_keys_are_no_secret() -> None:
    public = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for content in (b'BEGIN = "-----BEGIN PRIVATE KEY-----"\nif BEGIN in text:\n    raise ValueError\n', public, b"KEY = 1\n"):
        assert secret_files.by_content(content) is None
    assert isinstance(chunk_file("secret_files.py", Path(secret_files.__file__).read_bytes()), list)
