"""ActiveMQ's jars: a folder given, Debian's packages installed, or the same packages unpacked into our cache; never needs root."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from federation.errors import LocalServiceError
from federation.local import debian

WAYS_OUT = (
    "Three ways out: set FEDERATION_BROKER_URL to an ActiveMQ that runs elsewhere (activemq://user:password@host:61613/); "
    "set ACTIVEMQ_HOME to an unpacked ActiveMQ Classic; or start the services in containers with compose/ (see README)."
)
SIZE = "about 13 MB"

_SYSTEM_JARS = Path("/usr/share/java")
# Only what the broker loads with our configuration, and what those jars refer to: the full closure is four times as many packages.
_PACKAGES = (
    "libactivemq-java",
    "libactivemq-activeio-java",
    "libactivemq-protobuf-java",
    "libaopalliance-java",
    "libgeronimo-annotation-1.3-spec-java",
    "libgeronimo-j2ee-connector-1.5-spec-java",
    "libgeronimo-j2ee-management-1.1-spec-java",
    "libgeronimo-jacc-1.1-spec-java",
    "libgeronimo-jms-1.1-spec-java",
    "libgeronimo-jta-1.2-spec-java",
    "libhawtbuf-java",
    "libjackson2-annotations-java",
    "libjackson2-core-java",
    "libjackson2-databind-java",
    "libjasypt-java",
    "libjettison-java",
    "liblog4j1.2-java",
    "libslf4j-java",
    "libspring-aop-java",
    "libspring-beans-java",
    "libspring-context-java",
    "libspring-core-java",
    "libspring-expression-java",
    "libxbean-java",
    "libxpp3-java",
    "libxstream-java",
)
# xstream, jettison and xpp3 answer the statistics plugin's map messages; Debian installs them outside the broker's own class path.
_JARS = (
    *("activemq-broker", "activemq-client", "activemq-console", "activemq-jaas", "activemq-kahadb-store", "activemq-openwire-legacy"),
    *("activemq-protobuf", "activemq-spring", "activemq-stomp", "activeio-core", "aopalliance", "geronimo-annotation-1.3-spec"),
    *("geronimo-j2ee-connector-1.5-spec", "geronimo-j2ee-management-1.1-spec", "geronimo-jacc_1.1_spec", "geronimo-jms_1.1_spec"),
    *("geronimo-jta-1.2-spec", "hawtbuf", "jackson-annotations", "jackson-core", "jackson-databind", "jasypt", "jcl-over-slf4j", "jettison"),
    *("log4j-1.2", "slf4j-api", "slf4j-log4j12", "spring3-aop", "spring3-beans", "spring3-context", "spring3-core", "spring3-expression"),
    *("xbean-spring", "xpp3", "xstream"),
)


@dataclass(frozen=True)
class Distribution:
    """Where ActiveMQ's jars were found, the class path to run them with, and where an archive of its classes is if one was made."""

    origin: str
    class_path: Sequence[str]
    archive: Path


def find(home: Path | None, cache_dir: Path) -> Distribution | None:
    """Return the jars that are on this machine already: the given home, else Debian's, else our cache; None if there are none.

    Raises LocalServiceError when the given home holds no ActiveMQ.
    """
    if home is not None:
        return _distribution(f"ACTIVEMQ_HOME={home}", _of_home(home), cache_dir)
    for folder, origin in ((_SYSTEM_JARS, "Debian's package"), (_cached(cache_dir), f"fetched to {_cached(cache_dir)}")):
        jars = [folder / f"{name}.jar" for name in _JARS]
        if all(jar.exists() for jar in jars):
            return _distribution(origin, [str(jar) for jar in jars], cache_dir)
    return None


def _distribution(origin: str, class_path: Sequence[str], cache_dir: Path) -> Distribution:
    # Java looks itself whether an archive is of these jars and of this Java.
    return Distribution(origin, class_path, cache_dir / f"activemq-{sha256(':'.join(class_path).encode()).hexdigest()[:12]}.jsa")


def find_or_fetch(home: Path | None, cache_dir: Path) -> Distribution:
    """Return the jars, fetching Debian's packages into the cache when there are none on this machine.

    Raises LocalServiceError naming the ways out when they cannot be had.
    """
    found = find(home, cache_dir)
    if found is None:
        _fetch(_cached(cache_dir))
        found = find(home, cache_dir)
    if found is None:
        raise LocalServiceError(f"Debian's packages of ActiveMQ lack a jar that the broker needs. {WAYS_OUT}")
    return found


def _cached(cache_dir: Path) -> Path:
    return cache_dir / "activemq"


def _of_home(home: Path) -> list[str]:
    if not any(home.glob("lib/activemq-broker*.jar")):
        raise LocalServiceError(f"ACTIVEMQ_HOME: got {home}, which has no lib/activemq-broker*.jar; wants the folder of an unpacked ActiveMQ Classic")
    return [f"{home}/lib/*", f"{home}/lib/optional/*", f"{home}/lib/extra/*"]


def _fetch(target: Path) -> None:
    try:
        debian.unpack(_PACKAGES, target, keep="usr/share/java")
    except LocalServiceError as error:
        raise LocalServiceError(f"ActiveMQ is not on this machine and cannot be fetched: {error}\n{WAYS_OUT}") from error
