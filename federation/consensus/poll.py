"""Poll: the most votes win."""

from typing import ClassVar

from federation.consensus.plurality import Plurality


class Poll(Plurality):
    """Each ballot names one option."""

    name: ClassVar[str] = "poll"
    about: ClassVar[str] = "the most votes win"
    several: ClassVar[bool] = False
