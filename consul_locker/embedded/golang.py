"""The behaviour of Go's standard library that can be seen in Consul's answers.

Consul's error texts are Go's: how a duration is read, how a string is quoted, what is said about a JSON
value of the wrong kind. The embedded agent says the same, so that code which reads those texts can be tested
against it.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import Any

__all__ = [
    "Invalid",
    "as_kind",
    "check_uuid",
    "decode_base64",
    "decode_json",
    "duration",
    "kind",
    "quote",
    "uint64",
]

#: Nanoseconds of each unit that time.ParseDuration knows (Go, time/format.go, unitMap).
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
_UINT64_MAX = 2**64 - 1

#: strconv.Quote's short escapes.
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


class Invalid(Exception):
    """A text or value that Go would refuse; its message is Go's."""


def duration(text: str) -> int:
    """Read a duration as time.ParseDuration does.

    Returns:
        Nanoseconds.

    Raises:
        Invalid: with Go's words.
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text[1:] if text[:1] == "+" else text)
    if rest == "0":
        return 0
    total, place = 0.0, 0
    while place < len(rest):
        term = _TERM.match(rest, place)
        if term is None:
            raise Invalid(f"time: invalid duration {quote(text)}")
        number, unit = term.groups()
        if not unit:
            raise Invalid(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise Invalid(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        total += float(number) * _UNITS[unit]
        place = term.end()
    if place == 0:
        raise Invalid(f"time: invalid duration {quote(text)}")
    return sign * round(total)


def uint64(text: str) -> int:
    """Read a number as strconv.ParseUint(text, 10, 64) does.

    Raises:
        Invalid: with Go's words.
    """
    if not (text.isascii() and text.isdigit()):
        raise Invalid(f"strconv.ParseUint: parsing {quote(text)}: invalid syntax")
    number = int(text)
    if number > _UINT64_MAX:
        raise Invalid(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return number


def quote(text: str) -> str:
    """Quote a string as strconv.Quote (``%q``) does."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    parts = ['"']
    for letter in text:
        code = ord(letter)
        if letter in _ESCAPES:
            parts.append(_ESCAPES[letter])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as surrogateescape keeps it
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif letter.isprintable():
            parts.append(letter)
        elif code < 0x20:
            parts.append(f"\\x{code:02x}")
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    parts.append('"')
    return "".join(parts)


def check_uuid(text: str) -> str:
    """Check a session id as the index of Consul's state store does (go-memdb, UUIDFieldIndex).

    Returns:
        The id in lower case, as sessions are found.

    Raises:
        Invalid: with go-memdb's words.
    """
    if len(text.encode("utf-8", "surrogateescape")) != 36:
        raise Invalid("index error: UUID must be 36 characters")
    hyphens = text.count("-")
    if hyphens > 4:
        raise Invalid(f'index error: UUID should have maximum of 4 "-"; got {hyphens}')
    digits = text.replace("-", "")
    if len(digits.encode("utf-8", "surrogateescape")) % 2:
        raise Invalid("index error: Input (without hyphens) must be even length")
    for digit in digits:
        if digit not in "0123456789abcdefABCDEF":
            shown = digit if digit.isascii() else chr(digit.encode("utf-8", "surrogateescape")[0])
            raise Invalid(f"index error: Invalid UUID: encoding/hex: invalid byte: U+{ord(shown):04X} '{shown}'")
    return text.lower()


def kind(value: Any) -> str:
    """What encoding/json calls the kind of a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


_ALLOWED = {"string": str, "array": list, "object": dict, "uint64": int}


def as_kind(value: Any, wanted: str, where: str) -> Any:
    """Return the value when it is of the wanted JSON kind.

    Args:
        value: of a JSON document; not None, which leaves a Go field as it was.
        wanted: ``string``, ``array``, ``object`` or ``uint64``.
        where: the place and its type in Go's words, for the message.

    Raises:
        Invalid: with encoding/json's words.
    """
    if wanted == "uint64" and kind(value) == "number":
        if isinstance(value, int) and 0 <= value <= _UINT64_MAX:
            return value
        raise Invalid(f"json: cannot unmarshal number {value} into Go {where}")
    if not isinstance(value, _ALLOWED[wanted]) or isinstance(value, bool):
        raise Invalid(f"json: cannot unmarshal {kind(value)} into Go {where}")
    return _without_surrogates(value) if isinstance(value, str) else value


def _without_surrogates(text: str) -> str:
    """Lone surrogates become U+FFFD, as encoding/json reads them."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_DECODER = json.JSONDecoder()
_BASE64_LETTER = re.compile(r"[A-Za-z0-9+/]")
_BLANKS = re.compile(r"[ \t\r\n]*")


def decode_json(body: bytes) -> Any:
    """Read the first JSON value of a body; what follows it is ignored, as a Go json.Decoder does.

    Raises:
        Invalid: with encoding/json's words for an empty or truncated body, near them otherwise.
    """
    text = body.decode("utf-8", "replace")
    blanks = _BLANKS.match(text)
    start = blanks.end() if blanks else 0
    if start == len(text):
        raise Invalid("EOF")
    try:
        return _DECODER.raw_decode(text, start)[0]
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()):
            raise Invalid("unexpected EOF") from None
        raise Invalid(f"invalid character '{text[error.pos]}' looking for beginning of value") from None
    except RecursionError:
        raise Invalid("exceeded max depth") from None


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode_base64(text: str) -> bytes:
    """Read a []byte of a JSON document.

    Raises:
        Invalid: with encoding/base64's words.
    """
    bare = text.replace("\n", "").replace("\r", "") if "\n" in text or "\r" in text else text
    good = _BASE64.match(bare)
    end = good.end() if good else 0
    if end == len(bare):
        return binascii.a2b_base64(bare)
    # Go names the first letter that cannot stand where it stands, else the beginning of an incomplete group.
    if not bare[:end].endswith("="):
        for place in range(end, min(end + 4, len(bare))):
            if not _BASE64_LETTER.match(bare[place]):
                end = place
                break
    raise Invalid(f"illegal base64 data at input byte {end}")
