"""The differences between versions of Consul: one table, which the other modules read. Pure.

Three versions are known. Each is checked against a recording of a real agent (tests/contract: 1.8.7, 1.16.4, and
1.23.0-dev of April 2026), so that a row which is wrong fails there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from ..errors import ConfigurationError

__all__ = ["DEFAULT", "VERSIONS", "Version", "pattern_fault", "version_of"]

Headers = tuple[tuple[str, str], ...]

_JSON = ("Content-Type", "application/json")
_JSON_UTF8 = ("Content-Type", "application/json; charset=utf-8")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")


@dataclass(frozen=True)
class Version:
    """How one version answers.

    Attributes:
        number: what /v1/agent/self says.
        config: what /v1/agent/self says besides, name and value.
        max_operations: the most operations of one transaction.
        cleans_decoded: a path is cleaned after its percent-escapes are read, else before.
        redirect: the status of the redirect to a cleaned path.
        explains_paths: an unknown path is answered with a sentence.
        checks_ids: a session's id must be a UUID; else any text may be asked for, and is not found.
        not_applied: what stands before the reason for which a session was not made.
        not_locked: what stands before the reason for which a key was not locked or released, in /v1/kv.
        limits: the page that the refusal of a large body points to.
        read_meta: what the answer to a transaction of reads says besides, name and value.
        read_index: its Index, if the keys were looked at.
        unread_leader: its KnownLeader, if an operation was refused before the keys were looked at.
        verbs_first: an unknown verb is told first and alone.
        conflict: the Content-Type of a transaction that failed.
        value: the Content-Type of ``?raw``.
        bare: that of an answer to OPTIONS.
        bad_query: that of the answer to a query that cannot be read.
        end_of_flags: what follows the words about conflicting flags.
        key_fault: why a key is refused, else "".
        denials: whether the refusal of a right names the right.
        tells_filtered: whether a read from which something was filtered says so in a header.
    """

    number: str
    config: Headers
    max_operations: int
    cleans_decoded: bool
    redirect: int
    explains_paths: bool
    checks_ids: bool
    not_applied: str
    not_locked: str
    limits: str
    read_meta: tuple[tuple[str, bool | int], ...]
    read_index: int
    unread_leader: bool
    verbs_first: bool
    conflict: tuple[str, str]
    value: tuple[str, str]
    bare: Headers
    bad_query: Headers
    end_of_flags: str
    key_fault: Callable[[str], str]
    denials: bool
    tells_filtered: bool

    def denied(self, right: str, on: str) -> str:
        """The message for a caller that lacks a right, such as ``key:write`` on a key."""
        if not self.denials:
            return "Permission denied"
        return (
            f"Permission denied: token with AccessorID '00000000-0000-0000-0000-000000000002' "
            f"lacks permission '{right}' on \"{on}\""
        )


def _takes_all(key: str) -> str:
    """Every key is taken."""
    return ""


def _key_fault(key: str) -> str:
    """The rules since February 2026 (1.22.5); the words past ``invalid key name,`` are near Consul's only.

    The recording has a key taken whose ``..`` leads to a place below the beginning, so the path is cleaned first.
    """
    if not key:
        return "empty key name is not allowed"
    if key.startswith("/"):
        return "invalid key name, must not begin with a '/'"
    if key != key.strip(" "):
        return "invalid key name, must not begin or end with a space"
    if ".." in key and posixpath.normpath(key).split("/")[0] == "..":
        return "invalid key name, must not lead outside by '..'"
    decoded = unquote(key)
    if decoded != key and (".." in decoded or " " in decoded):
        return "invalid key name, must not have '..' or a space once it is percent-decoded"
    return ""


#: What 1.21.5 takes for a key in /v1/kv (hashicorp/consul#22822); 1.21.6 took the rule back.
_PATTERN_OF_1_21_5 = re.compile(r"[a-zA-Z0-9,_./\-?&=]+")


def pattern_fault(key: str) -> str:
    """Why Consul 1.21.5 refuses a key in /v1/kv, else ""."""
    if not key or _PATTERN_OF_1_21_5.fullmatch(key):
        return ""
    return r'invalid key name, keys should respect the "^[a-zA-Z0-9,_./\\-?&=]+$" format'


_V1_8 = Version(
    number="1.8.7",
    config=(),
    max_operations=64,
    cleans_decoded=True,
    redirect=301,
    explains_paths=False,
    checks_ids=True,
    not_applied="",
    not_locked="",
    limits="https://www.consul.io/docs/agent/options.html",
    read_meta=(),
    read_index=0,
    unread_leader=True,
    verbs_first=False,
    conflict=_JSON,
    value=("Content-Type", "text/plain"),
    bare=(),
    bad_query=(),
    end_of_flags="",
    key_fault=_takes_all,
    denials=False,
    tells_filtered=False,
)

_V1_16 = replace(
    _V1_8,
    number="1.16.4",
    config=(("BuildDate", "1970-01-01T00:00:01Z"), ("PrimaryDatacenter", "dc1")),
    max_operations=128,
    cleans_decoded=False,
    redirect=307,
    explains_paths=True,
    checks_ids=False,
    not_applied="apply failed: ",
    not_locked="raft apply failed: ",
    limits="https://www.consul.io/docs/agent/config/config-files",
    read_meta=(("NotModified", False), ("Backend", 0), ("ResultsFilteredByACLs", False)),
    read_index=1,
    unread_leader=False,
    denials=True,
    tells_filtered=True,
)

_V1_23 = replace(
    _V1_16,
    number="1.23.0",
    config=(*_V1_16.config, ("BindAddr", "127.0.0.1")),
    limits="https://developer.hashicorp.com/docs/agent/config/config-files",
    verbs_first=True,
    conflict=_JSON_UTF8,
    value=_TEXT,
    bare=(_JSON_UTF8,),
    bad_query=(_TEXT,),
    end_of_flags="\n",
    key_fault=_key_fault,
)

#: By the name that `Agent` takes.
VERSIONS = {"1.8": _V1_8, "1.16": _V1_16, "1.23": _V1_23}

#: The newest: most users have it, or will.
DEFAULT = "1.23"


def version_of(name: str) -> Version:
    """The version of that name.

    Raises:
        ConfigurationError: there is no such version.
    """
    if not isinstance(name, str) or name not in VERSIONS:
        known = ", ".join(repr(known) for known in VERSIONS)
        raise ConfigurationError("version", name, f"the embedded agent speaks as Consul {known}")
    return VERSIONS[name]
