"""The list of mechanisms: one line each."""

from collections.abc import Mapping
from enum import StrEnum

from federation.consensus.approval import Approval
from federation.consensus.counting import Mechanism
from federation.consensus.majority import Majority
from federation.consensus.poll import Poll
from federation.consensus.ranked import Ranked
from federation.consensus.supermajority import Supermajority
from federation.consensus.threshold import Threshold
from federation.consensus.unanimous import Unanimous


class Name(StrEnum):
    """What a mechanism is called."""

    POLL = "poll"
    MAJORITY = "majority"
    SUPERMAJORITY = "supermajority"
    UNANIMOUS = "unanimous"
    THRESHOLD = "threshold"
    APPROVAL = "approval"
    RANKED = "ranked"


MECHANISMS: Mapping[str, Mechanism] = {
    each.name: each for each in (Poll(), Majority(), Supermajority(), Unanimous(), Threshold(), Approval(), Ranked())
}
