"""Approval: each ballot names all options that its voter can live with, and the most votes win."""

from typing import ClassVar

from federation.consensus.plurality import Plurality


class Approval(Plurality):
    """Each ballot names one option or several."""

    name: ClassVar[str] = "approval"
    about: ClassVar[str] = "each names all that are fine, and the most votes win"
    several: ClassVar[bool] = True
