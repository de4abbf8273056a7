"""The words of the search language: text in, tokens with their places out. `tracking.search` has the grammar."""

import re
from enum import StrEnum
from typing import NamedTuple

from tracking.errors import InvalidParameter


class SearchSyntaxError(InvalidParameter):
    """A filter or an order_by clause that isn't in the grammar: where, what was expected, what stood there."""

    def __init__(self, text: str, position: int, expected: str, found: str) -> None:
        shown = repr(text if len(text) <= 200 else text[:200] + "…")
        super().__init__(f"Invalid search at position {position + 1}: expected {expected}, found {found}. In: {shown}")


class Kind(StrEnum):
    WORD = "word"
    NUMBER = "number"
    SINGLE_QUOTED = "string"
    DOUBLE_QUOTED = "quoted"
    BACKTICKED = "backticked"
    COMPARATOR = "comparator"
    PUNCTUATION = "punctuation"
    END = "end"


class Token(NamedTuple):
    kind: Kind
    text: str
    """Without its quotes."""
    position: int
    end: int

    @property
    def shown(self) -> str:
        return "the end" if self.kind is Kind.END else repr(self.text[:60])

    def is_word(self, keyword: str) -> bool:
        return self.kind is Kind.WORD and self.text.upper() == keyword


# A number must not run on into a word, or `5abc` would be read as 5 and something unexpected.
_TOKEN = re.compile(
    r"""(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w./:@-]))
      | (?P<word>\w[\w./:@-]*)
      | '(?P<string>(?:[^']|'')*)'
      | "(?P<quoted>(?:[^"]|"")*)"
      | `(?P<backticked>[^`]*)`
      | (?P<comparator><=|>=|!=|==|<>|=|<|>)
      | (?P<punctuation>[().,])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")


def tokens(text: str) -> list[Token]:
    found = []
    position = _skip_space(text, 0)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            quote = text[position] in "'\"`"
            expected = "a closing quote" if quote else "a field, a comparator or a value"
            raise SearchSyntaxError(text, position, expected, repr(text[position : position + 20]))
        kind = Kind(match.lastgroup)
        found.append(Token(kind, _unquoted(kind, match[match.lastgroup]), position, match.end()))
        position = _skip_space(text, match.end())
    found.append(Token(Kind.END, "", len(text), len(text)))
    return found


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _unquoted(kind: Kind, text: str) -> str:
    match kind:
        case Kind.SINGLE_QUOTED:
            return text.replace("''", "'")
        case Kind.DOUBLE_QUOTED:
            return text.replace('""', '"')
        case _:
            return text
