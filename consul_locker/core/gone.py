"""The inquiry: is the session in use gone? Only two answers together prove it (docs/safety.rst, rule 1).

Each of them alone may be wrong, never both for the same cause (measured):

- A server that has just started answers a *renewal* from its own state, without a barrier: 404 for sessions that exist.
- Under an ACL without session:read a *read* finds no session, even a consistent one; a renewal is answered 403.

So the proof is a renewal answered 404, and a consistent read, sent after that, which does not find the session; with no
other answer to a renewal in between. After any other sign of its end the Locker sends these two requests at once. The
proof is wrong only if a server starts and an ACL policy is narrowed within the time of one request.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Evidence", "Inquiry", "Sign"]


class Evidence(Enum):
    """The evidence against the session in use."""

    NONE = "nothing"
    UNSEEN = "a read did not find it; a renewal decides"
    REFUSED = "a renewal was answered 404; a consistent read decides"
    PROVEN = "both, one after the other: it is gone"


class Sign(Enum):
    """One answer of Consul about the session."""

    LIVES = "a renewal was granted, or a consistent read found the session"
    UNSEEN = "a read that did not follow a 404: no such session"
    RENEWAL_404 = "a renewal: 404"
    RENEWAL_SILENT = "a renewal: no answer, or one that says nothing (403, 500)"
    READ_EMPTY = "a consistent read, sent after the 404: no such session"
    READ_SILENT = "a read: no answer, or one that says nothing"


#: The evidence after a sign; a pair that is not here leaves it unchanged.
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
        evidence: the evidence against it now.
    """

    __slots__ = ("evidence",)

    def __init__(self) -> None:
        self.evidence = Evidence.NONE

    def hear(self, sign: Sign) -> Evidence:
        """Note an answer. Returns the evidence against the session now."""
        self.evidence = _NEXT.get((self.evidence, sign), self.evidence)
        return self.evidence
