"""The chain of the history: each entry's hash is made of what it says and of the hash before it. Pure.

Whoever alters, takes out or slips in an entry must alter every hash after it, and the last one is known outside: it is
printed with each log, and anybody may have noted it.
"""

import hashlib
from collections.abc import Iterable

import msgspec

from registry.entities import HistoryEntry

BEGINNING = "0" * 64
"""What comes before the first entry."""


class Link(msgspec.Struct, frozen=True):
    """An entry's place in the chain: its number and its hash."""

    seq: int
    hash: str


FIRST = Link(0, BEGINNING)


class Break(msgspec.Struct, frozen=True):
    """Where the chain doesn't hold."""

    seq: int
    """The first entry that isn't what it was, or isn't there."""
    what: str


def link_hash(before: str, entry: HistoryEntry) -> str:
    """SHA-256, in hexadecimal digits, over *before*, a line feed, and the entry as a JSON array without spaces.

    The array has, in this order: seq, at_ms, author, action, model, alias, version, reason, and the details as the text
    of a JSON object with its keys sorted.
    """
    said = msgspec.json.encode(
        [
            entry.seq,
            entry.at_ms,
            entry.author,
            entry.action,
            entry.model,
            entry.alias,
            entry.version,
            entry.reason,
            canonical(entry.details),
        ]
    )
    return hashlib.sha256(before.encode() + b"\n" + said).hexdigest()


def canonical(details: object) -> str:
    return msgspec.json.encode(details, order="sorted").decode()


def follow(entries: Iterable[HistoryEntry], after: Link = FIRST) -> Link | Break:
    """The last of *entries*, which come in order, if each follows from the one before; else the first that doesn't."""
    link = after
    for entry in entries:
        if entry.seq <= link.seq:
            return Break(entry.seq, "was never written")
        if entry.seq != link.seq + 1:
            return Break(link.seq + 1, "is missing")
        if link_hash(link.hash, entry) != entry.hash:
            return Break(entry.seq, "isn't what was written, or the one before it isn't")
        link = Link(entry.seq, entry.hash)
    return link
