"""What the node files of this machine declare, of nodes that never announced themselves too; a file that cannot be read says nothing."""

import logging

from federation.errors import SettingsError
from federation.placement.node_file import NodeFile, names, node_file

logger = logging.getLogger(__name__)


def declared() -> list[NodeFile]:
    """Return the nodes that have a file here, in order of name."""
    try:
        found = names()
    except SettingsError as error:
        # The front door needs no files: nodes tell by themselves what they have.
        logger.warning("node_files.unknown reason=%s", error)
        return []
    readable = []
    for name in found:
        try:
            readable.append(node_file(name))
        except SettingsError as error:
            logger.warning("node_files.unreadable reason=%s", error)
    return readable
