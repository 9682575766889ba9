"""stunnel, found on this system or unpacked from Debian's package into our cache, and the part that lets it speak TLS for PostgreSQL."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from federation.errors import LocalServiceError
from federation.local import debian
from federation.local.certificates import DATABASE, Certificates
from federation.local.parts import Part
from federation.local.ports import LOOPBACK

WAYS_OUT = (
    "Two ways out: install it (in Debian the package stunnel4, elsewhere stunnel); "
    "or set FEDERATION_DATABASE_URL to a PostgreSQL that speaks TLS itself (postgresql://…?sslmode=verify-full&sslrootcert=…)."
)
SIZE = "less than 5 MB"

# Not with all that the package depends on: that is systemd and Perl, for services of the system. Its other libraries each Debian has,
# or they come with this one.
_PACKAGE, _LIBRARY = "stunnel4", "libwrap0"
# libpq asks for TLS before it says anything else, and `protocol` has stunnel answer as PostgreSQL would; who does not ask is sent away.
_CONFIGURATION = """\
foreground = yes
syslog = no
pid =
debug = err
[postgres]
protocol = pgsql
accept = {host}:{port}
connect = {socket}
cert = {certificate}
key = {key}
CAfile = {authority}
sslVersionMin = TLSv1.2
; Who waits for notifications may be silent for days; this is as long as stunnel can wait.
TIMEOUTidle = 2147483
"""


@dataclass(frozen=True)
class Stunnel:
    """Where stunnel was found, and the folders of libraries that came with it."""

    origin: str
    program: Path
    libraries: Sequence[Path] = ()

    def part(self, folder: Path, port: int, socket: str, certificates: Certificates, is_ready: Callable[[], bool]) -> Part:
        """Return what the supervisor needs to serve a PostgreSQL's socket, a path below `folder`, over TLS and nothing else on a port of loopback."""
        configuration = folder / "stunnel.conf"
        content = _CONFIGURATION.format(
            host=LOOPBACK,
            port=port,
            # A way of any length: the path of a socket may hold 107 characters.
            socket=f"/proc/self/cwd/{socket}",
            certificate=certificates.certificate(DATABASE),
            key=certificates.key(DATABASE),
            authority=certificates.authority,
        )

        def prepare() -> None:
            configuration.write_text(content)

        return Part(
            name="postgres-tls",
            command=[self.program, configuration],
            prepare=prepare,
            is_ready=is_ready,
            cwd=folder,
            environment={"LD_LIBRARY_PATH": ":".join(map(str, self.libraries))} if self.libraries else {},
        )


def find(cache_dir: Path) -> Stunnel | None:
    """Return the stunnel that is on this machine already: the system's, else the one in our cache; None if there is none."""
    system = shutil.which("stunnel4") or shutil.which("stunnel")
    if system:
        return Stunnel(system, Path(system))
    cached = _cached(cache_dir)
    program = cached / "usr" / "bin" / "stunnel4"
    if not program.exists():
        return None
    return Stunnel(f"fetched to {cached}", program, sorted({library.parent for library in cached.rglob("lib*.so*")}))


def find_or_fetch(cache_dir: Path) -> Stunnel:
    """Return stunnel, fetching Debian's package into the cache when there is none on this machine.

    Raises LocalServiceError naming the ways out when it cannot be had.
    """
    found = find(cache_dir)
    if found is None:
        try:
            debian.unpack([_PACKAGE], _cached(cache_dir), needed=[_LIBRARY])
        except LocalServiceError as error:
            raise LocalServiceError(f"stunnel is not on this machine and cannot be fetched: {error}\n{WAYS_OUT}") from error
        found = find(cache_dir)
    if found is None:
        raise LocalServiceError(f"Debian's package {_PACKAGE} lacks the program. {WAYS_OUT}")
    return found


def _cached(cache_dir: Path) -> Path:
    return cache_dir / "stunnel"
