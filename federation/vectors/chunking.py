"""A file's bytes to chunks with the words they are found by; reads no file and embeds nothing."""

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from federation.vectors.code import code_pieces
from federation.vectors.languages import SUFFIXES, syntax_of
from federation.vectors.pieces import Piece
from federation.vectors.prose import markdown_pieces, text_pieces
from federation.vectors.sources import Skipped, decoded
from federation.vectors.wording import VERSION, embedding_text, searchable_text


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a file that is found and shown as one; lines count from 1, both ends included.

    `content_hash` covers all that is indexed of it (path, title, text, and how they are worded) but not where in the file
    it stands: the same hash always has the same vector, so a chunk that only moved costs nothing.
    """

    path: str
    kind: str
    title: str
    start_line: int
    end_line: int
    text: str
    content_hash: str

    @property
    def searchable(self) -> str:
        """Words for full text search."""
        return searchable_text(self.path, self.title, self.text)

    @property
    def embeddable(self) -> str:
        """Text for the embedding model."""
        return embedding_text(self.path, self.title, self.text)


def digest(sha256: str) -> str:
    """Return a file's digest as it is recorded: another one when files are cut or worded otherwise, so that they are read anew."""
    return hashlib.sha256(f"file {VERSION} {sha256}".encode()).hexdigest()


def _hash(path: str, piece: Piece) -> str:
    # Lengths in front, so that no two different triples join to the same bytes.
    parts = [part.encode() for part in (path, piece.title, piece.text)]
    digest = hashlib.sha256(f"chunk {VERSION} {[len(part) for part in parts]}".encode())
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def chunk_file(path: str, content: bytes) -> list[Chunk] | Skipped:
    """Return the chunks of a file in order, or why it has none; `path` is relative, with slashes.

    Of pieces with the same title and text only the first is kept, so a content hash occurs once in a file.
    """
    text = decoded(path, content)
    if isinstance(text, Skipped):
        return text
    chunks: dict[str, Chunk] = {}
    for piece in _pieces(path, text.replace("\r\n", "\n")):
        key = _hash(path, piece)
        chunks.setdefault(key, Chunk(path, piece.kind, piece.title, piece.start_line, piece.end_line, piece.text, key))
    return list(chunks.values()) or Skipped(path, "empty: there is no word in it")


def _pieces(path: str, text: str) -> list[Piece]:
    suffix = PurePosixPath(path).suffix.lower()
    if (syntax := syntax_of(suffix, text)) is not None:
        return code_pieces(syntax, text)
    return markdown_pieces(text) if suffix in SUFFIXES["markdown"] else text_pieces(text)
