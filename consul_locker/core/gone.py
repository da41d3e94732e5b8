"""Is the session in use gone? Two witnesses are asked, and only both together prove it (docs/safety.rst, rule 1).

Each of them lies at times, never both for the same cause (measured):

- A server that has just started answers a *renewal* from its own state, without a barrier: 404 for sessions that live.
- Under an ACL without session:read a *read* finds no session, a consistent one neither; a renewal is answered 403.

So the proof is a renewal answered 404 and, asked after that, a consistent read that does not find the session; with no
renewal in between that was answered otherwise. Any other sign of its end only makes the Locker ask for these two at
once. What would err here is a server that starts and a policy that is narrowed within the time of one request.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Evidence", "Inquiry", "Sign"]


class Evidence(Enum):
    """What speaks against the session in use."""

    NONE = "nothing"
    UNSEEN = "a read did not find it: a renewal is to say what is true"
    REFUSED = "a renewal was answered 404: a consistent read is to say what is true"
    PROVEN = "both, one after the other: it is gone"


class Sign(Enum):
    """What one of the witnesses said."""

    LIVES = "a renewal was granted, or a consistent read found the session"
    UNSEEN = "a read that nobody asked for because of a 404: no such session"
    RENEWAL_404 = "a renewal: 404"
    RENEWAL_SILENT = "a renewal: no answer, or one that says nothing (403, 500)"
    READ_EMPTY = "a consistent read, asked for after the 404: no such session"
    READ_SILENT = "a read: no answer, or one that says nothing"


#: What a sign makes of a doubt; one that is not here leaves it as it is.
_NEXT = {
    (Evidence.NONE, Sign.UNSEEN): Evidence.UNSEEN,
    (Evidence.NONE, Sign.RENEWAL_404): Evidence.REFUSED,
    (Evidence.UNSEEN, Sign.RENEWAL_404): Evidence.REFUSED,
    (Evidence.UNSEEN, Sign.READ_SILENT): Evidence.NONE,
    (Evidence.UNSEEN, Sign.LIVES): Evidence.NONE,
    (Evidence.REFUSED, Sign.READ_EMPTY): Evidence.PROVEN,
    (Evidence.REFUSED, Sign.RENEWAL_SILENT): Evidence.NONE,
    (Evidence.REFUSED, Sign.LIVES): Evidence.NONE,
}


class Inquiry:
    """The inquiry into one session.

    Attributes:
        evidence: what speaks against it now.
    """

    __slots__ = ("evidence",)

    def __init__(self) -> None:
        self.evidence = Evidence.NONE

    def hear(self, sign: Sign) -> Evidence:
        """A witness said something. Returns what speaks against the session now."""
        self.evidence = _NEXT.get((self.evidence, sign), self.evidence)
        return self.evidence
