"""Answers that say that a request failed, as the core's outcomes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..core.requests import Failed, RefusedWhole
from ..errors import AccessDenied, ConsulUnavailable
from .words import EXCERPT, NOT_CONSUL, NOT_KNOWN, ONLY_THROUGH_SERVERS, RIGHTS, WANTS_TLS, is_outage, not_done

__all__ = ["NOBODY", "Access", "HttpResponse", "denied", "excerpt", "failure", "refused_whole", "senseless", "unusable"]


@dataclass(frozen=True)
class HttpResponse:
    """An answer. The names of ``headers`` are in lower case; of repeated ones the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes


class Access(NamedTuple):
    """With which right a request goes out, for the error when it is refused; None where that is not known."""

    token_source: str | None = None  #: where its token came from, in words
    on: str | None = None  #: what it is about: the name of a node, or a key


NOBODY = Access()


def excerpt(body: bytes) -> str:
    """The beginning of a body, as an error repeats it."""
    text = body[: 4 * EXCERPT].decode("utf-8", "replace").strip()
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


def unusable(
    operation: str, response: HttpResponse, why: str, option: str | None = None, *, sent: bool = True
) -> Failed:
    """The outcome of an answer that cannot be used: ``why``, and the ``option`` that is about it, if one is."""
    said = excerpt(response.body)
    error = ConsulUnavailable(
        f"{operation}: {why} (status {response.status}" + (f": {said})" if said else ", no body)"),
        operation=operation,
        status=response.status,
        sent=sent,
        option=option,
        outage=option is None and is_outage(response.status, response.body),
    )
    return Failed(error, sent)


#: How servers say that they have no such endpoint, or not for this method. Consul has all that are asked.
_NO_ENDPOINT = (404, 405, 501)

#: What is said, with a status of 400, to plain HTTP: by Go (measured), by nginx, by Apache (source).
_TO_PLAIN_HTTP = (
    b"HTTP request to an HTTPS server",
    b"plain HTTP request was sent to HTTPS port",
    b"speaking plain HTTP to an SSL-enabled server port",
)


def _wants_tls(response: HttpResponse) -> bool:
    return response.status == 400 and any(words in response.body for words in _TO_PLAIN_HTTP)


#: What Consul says, with a status of 400, to ?ns= (measured) or ?partition= (source), when it is not Enterprise.
_ENTERPRISE = b"are a Consul Enterprise feature"


def denied(operation: str, status: int, detail: str, access: Access) -> Failed:
    """The outcome of an answer that says that the token lacks a right."""
    right = RIGHTS.get(operation)
    error = AccessDenied(operation, status, detail, right=right, on=access.on, token_source=access.token_source)
    return Failed(error, sent=False)  # it is refused before anything is done


def failure(operation: str, response: HttpResponse, access: Access) -> Failed:
    """The outcome of an answer whose status says that the request failed."""
    status = response.status
    if not_done(status, response.body):
        return unusable(operation, response, "Consul cannot answer now; it has done nothing", sent=False)
    if status in (401, 403):
        return denied(operation, status, excerpt(response.body), access)
    if 300 <= status < 400:
        why = f"answered by a redirect, which is not followed; {NOT_CONSUL}"
        return unusable(operation, response, why, "host")
    if status in _NO_ENDPOINT:
        return unusable(operation, response, f"not found there; {NOT_CONSUL}", "host")
    if _ENTERPRISE in response.body:
        option = "partition" if b'"partition"' in response.body else "namespace"
        why = f"this Consul is not Enterprise, and takes no {option}; leave it out (CONSUL_{option.upper()})"
        return unusable(operation, response, why, option, sent=False)
    if _wants_tls(response):
        return unusable(operation, response, WANTS_TLS, "secure", sent=False)
    if status >= 500:
        for words, option in NOT_KNOWN:
            if words in response.body:
                return unusable(operation, response, f"Consul does not know what the option {option!r} names", option)
        if ONLY_THROUGH_SERVERS in response.body:
            why = (
                "a client agent makes no session of another datacenter; give the option 'host' the address of a "
                "server, or of an agent in that datacenter"
            )
            return unusable(operation, response, why, "host")
        return unusable(operation, response, "Consul cannot answer now")
    return unusable(operation, response, "Consul did not take the request")


def senseless(operation: str, response: HttpResponse, error: Exception) -> Failed:
    """The outcome of an answer that has another form than Consul's."""
    why = f"the answer is not valid: {type(error).__name__}: {error!s:.200}; {NOT_CONSUL}"
    return unusable(operation, response, why, "host")


#: With these a request is refused for what is in it: a part of it may be taken. 400 and 413 were measured, the others
#: are an intermediary's.
_FOR_CONTENT = (400, 406, 413, 414, 422)


def refused_whole(response: HttpResponse) -> RefusedWhole | None:
    """What a refusal for what is in the request says; None for any other answer."""
    about_all = _wants_tls(response) or _ENTERPRISE in response.body  # whatever is in it
    if response.status in _FOR_CONTENT and not about_all:
        return RefusedWhole(response.status, excerpt(response.body))
    return None
