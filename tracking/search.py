"""The search language: text in, checked comparisons out, the same for runs, models and versions.

::

    filter      = [ comparison { "AND" comparison } ] ;
    comparison  = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
                | field ( "LIKE" | "ILIKE" ) string
                | field [ "NOT" ] "IN" "(" string { "," string } ")"
                | field "IS" [ "NOT" ] "NULL" ;
    order_by    = field [ "ASC" | "DESC" ] ;
    field       = [ entity "." ] key ;
    entity      = word | "`" word "`" ;          (metrics, params, tags, attributes, datasets and their short forms)
    key         = word | "`" any "`" | '"' any '"' | "Run" "name" ;
    value       = string | number ;
    string      = "'" any "'" | '"' any '"' ;    (a quote inside is written twice)
    number      = [ "+" | "-" ] digits [ "." digits ] [ ("e"|"E") [ "+" | "-" ] digits ] ;
    word        = letters, digits and _ - . / : @ ;

Keywords are read in any case. There is no OR and there are no other parentheses; ``AND AND`` is an error, which the
genuine server lets pass and answers with everything.

What a field may be compared with depends on what is searched, and is said by a `Vocabulary`. Parsing knows nothing of
SQL: each package compiles the comparisons over its own tables (`tracking.filters` has what they share).
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NoReturn, TypeAlias

import msgspec

from tracking.errors import InvalidParameter
from tracking.search_tokens import Kind, SearchSyntaxError, Token, tokens

FILTER_CHARACTERS_MAX = 100_000
# SQLite's own bounds are 1,000 deep expressions and patterns of 50,000 bytes; ours stay below both.
COMPARISONS_MAX = 200
LIST_VALUES_MAX = 10_000
# Each may be a join, and SQLite has at most 64.
ORDERINGS_MAX = 20
PATTERN_CHARACTERS_MAX = 10_000


class Entity(StrEnum):
    """What a field belongs to; the word in front of the dot."""

    ATTRIBUTE = "attribute"
    METRIC = "metric"
    PARAM = "param"
    TAG = "tag"
    DATASET = "dataset"


_ENTITY_WORDS: Mapping[str, Entity] = {
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), Entity.ATTRIBUTE),
    **dict.fromkeys(("metric", "metrics"), Entity.METRIC),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), Entity.PARAM),
    **dict.fromkeys(("tag", "tags"), Entity.TAG),
    **dict.fromkeys(("dataset", "datasets"), Entity.DATASET),
}


class ValueType(StrEnum):
    NUMBER = "number"
    TEXT = "text"


class Comparator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_EQUAL = "<="
    GREATER = ">"
    GREATER_EQUAL = ">="
    LIKE = "LIKE"
    ILIKE = "ILIKE"
    IN = "IN"
    NOT_IN = "NOT IN"
    IS_NULL = "IS NULL"
    IS_NOT_NULL = "IS NOT NULL"


_NUMBER_COMPARATORS = frozenset(
    {
        Comparator.EQUAL,
        Comparator.NOT_EQUAL,
        Comparator.LESS,
        Comparator.LESS_EQUAL,
        Comparator.GREATER,
        Comparator.GREATER_EQUAL,
    }
)
_TEXT_COMPARATORS = frozenset(
    {
        Comparator.EQUAL,
        Comparator.NOT_EQUAL,
        Comparator.LIKE,
        Comparator.ILIKE,
        Comparator.IN,
        Comparator.NOT_IN,
    }
)
_PRESENCE_COMPARATORS = frozenset({Comparator.IS_NULL, Comparator.IS_NOT_NULL})

Value: TypeAlias = str | int | float | tuple[str, ...] | None


class Field(msgspec.Struct, frozen=True):
    """What is compared or ordered by: a column of the thing itself, or one of its metrics, params, tags or datasets."""

    entity: Entity
    key: str
    type: ValueType


class Comparison(msgspec.Struct, frozen=True):
    """One condition; a filter is all of them together."""

    field: Field
    comparator: Comparator
    value: Value = None
    """A number where the field is one, else text; the texts of a list for IN; None for IS NULL."""


class Ordering(msgspec.Struct, frozen=True):
    field: Field
    ascending: bool = True


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that one kind of thing has."""

    attributes: Mapping[str, ValueType]
    aliases: Mapping[str, str] = {}
    """Other spellings of attributes, in lower case."""
    entities: frozenset[Entity] = frozenset()
    """Besides attributes."""
    dataset_keys: frozenset[str] = frozenset({"name", "digest", "context"})


def parse_filter(text: str | None, vocabulary: Vocabulary) -> tuple[Comparison, ...]:
    """Read a filter; an empty one has no comparisons.

    Raises:
        SearchSyntaxError: if it isn't in the grammar, or compares what *vocabulary* doesn't have.
    """
    return _Parser(text or "", vocabulary).filter()


def parse_order_by(clauses: Sequence[str], vocabulary: Vocabulary) -> tuple[Ordering, ...]:
    """Read the clauses of an order, the weightiest first.

    Raises:
        SearchSyntaxError: if one isn't in the grammar, or names what *vocabulary* doesn't have.
    """
    if len(clauses) > ORDERINGS_MAX:
        raise InvalidParameter(f"An order has at most {ORDERINGS_MAX} clauses; this has {len(clauses)}.")
    return tuple(_Parser(clause, vocabulary).order_by() for clause in clauses)


def parse_field(name: str, vocabulary: Vocabulary) -> Field:
    """Read a field that has a parameter to itself: all behind the dot is the key, in quotes or not.

    Raises:
        SearchSyntaxError: if *vocabulary* doesn't have it.
    """
    entity, dot, key = name.strip().partition(".")
    if dot and key and key[0] not in '`"':
        quoted = key.replace('"', '""')
        name = f'{entity}."{quoted}"'
    return _Parser(name, vocabulary).lone_field()


_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE"})


class _Parser:
    """Recursive descent, one method for each rule of the grammar above."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        _refuse_oversized(text)
        _refuse_unstorable(text)
        self._text = text
        self._vocabulary = vocabulary
        self._tokens = tokens(text)
        self._place = 0

    def filter(self) -> tuple[Comparison, ...]:
        if self._at_end():
            return ()
        comparisons = [self._comparison()]
        while not self._at_end():
            if not self._take_if("AND"):
                self._refuse("AND or the end (there is no OR, and there are no parentheses)")
            comparisons.append(self._comparison())
            if len(comparisons) > COMPARISONS_MAX:
                raise InvalidParameter(f"A filter has at most {COMPARISONS_MAX} comparisons.")
        return tuple(comparisons)

    def order_by(self) -> Ordering:
        field = self._field()
        ascending = True
        if self._next.is_word("ASC") or self._next.is_word("DESC"):
            ascending = self._take().is_word("ASC")
        if not self._at_end():
            self._refuse("ASC, DESC or the end")
        return Ordering(field, ascending)

    def lone_field(self) -> Field:
        field = self._field()
        if not self._at_end():
            self._refuse("nothing after the field")
        return field

    def _comparison(self) -> Comparison:
        field = self._field()
        comparator = self._comparator(field)
        match comparator:
            case Comparator.IS_NULL | Comparator.IS_NOT_NULL:
                return Comparison(field, comparator)
            case Comparator.IN | Comparator.NOT_IN:
                return Comparison(field, comparator, self._list())
            case Comparator.LIKE | Comparator.ILIKE:
                return Comparison(field, comparator, self._pattern())
            case _:
                return Comparison(field, comparator, self._value(field))

    def _field(self) -> Field:
        token = self._next
        if token.kind is Kind.WORD and token.text.upper() in _KEYWORDS:
            self._refuse("a field such as metrics.accuracy")
        entity_word, key = self._entity_and_key()
        entity = Entity.ATTRIBUTE if entity_word is None else _ENTITY_WORDS.get(entity_word)
        if entity is None or (entity is not Entity.ATTRIBUTE and entity not in self._vocabulary.entities):
            wanted = ", ".join([Entity.ATTRIBUTE, *sorted(self._vocabulary.entities)])
            self._refuse(f"one of {wanted} before the dot", token)
        return self._known_field(entity, key, token)

    def _entity_and_key(self) -> tuple[str | None, str]:
        token = self._take()
        match token.kind:
            case Kind.WORD if token.text.endswith("."):
                return token.text[:-1], self._quoted_key(token)
            case Kind.WORD if "." in token.text:
                entity, _, key = token.text.partition(".")
                return entity, key
            case Kind.WORD if token.is_word("RUN") and self._next.is_word("NAME"):
                return None, f"run {self._take().text}"
            case Kind.WORD:
                return None, token.text
            case Kind.BACKTICKED | Kind.DOUBLE_QUOTED if self._next.text == "." and self._next.position == token.end:
                self._take()
                return token.text, self._key_after_dot()
            case Kind.BACKTICKED | Kind.DOUBLE_QUOTED:
                return None, token.text
            case _:
                return self._refuse("a field such as metrics.accuracy", token)

    def _key_after_dot(self) -> str:
        if self._next.kind is Kind.WORD:
            return self._take().text
        return self._quoted_key(self._next)

    def _quoted_key(self, before: Token) -> str:
        token = self._next
        if token.kind not in {Kind.BACKTICKED, Kind.DOUBLE_QUOTED} or token.position > before.end:
            self._refuse("a key right after the dot, in backticks or double quotes if it has other signs")
        return self._take().text

    def _known_field(self, entity: Entity, key: str, token: Token) -> Field:
        match entity:
            case Entity.METRIC:
                return Field(entity, key, ValueType.NUMBER)
            case Entity.PARAM | Entity.TAG:
                return Field(entity, key, ValueType.TEXT)
            case Entity.DATASET:
                if key not in self._vocabulary.dataset_keys:
                    self._refuse(f"a dataset's {', '.join(sorted(self._vocabulary.dataset_keys))}", token)
                return Field(entity, key, ValueType.TEXT)
            case Entity.ATTRIBUTE:
                name = self._vocabulary.aliases.get(key.lower(), key)
                value_type = self._vocabulary.attributes.get(name)
                if value_type is None:
                    self._refuse(f"an attribute ({', '.join(sorted(self._vocabulary.attributes))})", token)
                return Field(entity, name, value_type)

    def _comparator(self, field: Field) -> Comparator:
        token = self._next
        allowed = _comparators_of(field)
        comparator = self._read_comparator()
        if comparator not in allowed:
            said = ", ".join(one for one in Comparator if one in allowed)
            self._refuse(f"a comparator of {field.entity} {field.key!r} ({said})", token)
        return comparator

    def _read_comparator(self) -> Comparator | None:
        token = self._next
        if token.kind is Kind.COMPARATOR:
            self._take()
            return Comparator(token.text) if token.text in _COMPARATOR_SIGNS else None
        if token.is_word("IS"):
            self._take()
            negated = self._take_if("NOT")
            if not self._take_if("NULL"):
                self._refuse("NULL" if negated else "NULL or NOT NULL")
            return Comparator.IS_NOT_NULL if negated else Comparator.IS_NULL
        if self._take_if("NOT"):
            if not self._take_if("IN"):
                self._refuse("IN")
            return Comparator.NOT_IN
        for word in (Comparator.IN, Comparator.LIKE, Comparator.ILIKE):
            if self._take_if(word):
                return word
        return None

    def _value(self, field: Field) -> str | int | float:
        return self._number() if field.type is ValueType.NUMBER else self._string()

    def _number(self) -> int | float:
        if self._next.kind is not Kind.NUMBER:
            self._refuse("a number")
        token = self._take()
        if not re.fullmatch(r"[+-]?\d+", token.text):
            return float(token.text)
        if len(token.text) > 20 or not -(2**63) <= int(token.text) < 2**63:
            self._refuse("a number of 64 bits", token)
        return int(token.text)

    def _string(self) -> str:
        if self._next.kind not in {Kind.SINGLE_QUOTED, Kind.DOUBLE_QUOTED}:
            self._refuse("a value in single quotes")
        return self._take().text

    def _pattern(self) -> str:
        token = self._next
        pattern = self._string()
        if len(pattern) > PATTERN_CHARACTERS_MAX:
            self._refuse(f"a pattern of at most {PATTERN_CHARACTERS_MAX} characters", token)
        return pattern

    def _list(self) -> tuple[str, ...]:
        self._expect_punctuation("(")
        values = [self._string()]
        while self._next.text == "," and self._next.kind is Kind.PUNCTUATION:
            self._take()
            # Python writes a tuple of one as ('a',), and clients build filters with it.
            if self._next.text == ")" and self._next.kind is Kind.PUNCTUATION:
                break
            values.append(self._string())
        self._expect_punctuation(")")
        if len(values) > LIST_VALUES_MAX:
            raise InvalidParameter(f"A list in a filter has at most {LIST_VALUES_MAX} values.")
        return tuple(values)

    def _expect_punctuation(self, sign: str) -> None:
        if self._next.kind is not Kind.PUNCTUATION or self._next.text != sign:
            self._refuse(f"'{sign}'" if sign == "(" else "',' or ')'")
        self._take()

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _at_end(self) -> bool:
        return self._next.kind is Kind.END

    def _take(self) -> Token:
        token = self._tokens[self._place]
        if token.kind is not Kind.END:
            self._place += 1
        return token

    def _take_if(self, keyword: str) -> bool:
        if not self._next.is_word(keyword):
            return False
        self._take()
        return True

    def _refuse(self, expected: str, token: Token | None = None) -> NoReturn:
        token = token or self._next
        raise SearchSyntaxError(self._text, token.position, expected, token.shown)


_COMPARATOR_SIGNS = frozenset({"=", "!=", "<", "<=", ">", ">="})


def _comparators_of(field: Field) -> frozenset[Comparator]:
    if field.type is ValueType.NUMBER:
        return _NUMBER_COMPARATORS
    if field.entity in {Entity.PARAM, Entity.TAG}:
        return _TEXT_COMPARATORS | _PRESENCE_COMPARATORS
    return _TEXT_COMPARATORS


def _refuse_oversized(text: str) -> None:
    if len(text) > FILTER_CHARACTERS_MAX:
        raise InvalidParameter(f"A search is at most {FILTER_CHARACTERS_MAX} characters long; this has {len(text)}.")


def _refuse_unstorable(text: str) -> None:
    # Such text can't be in any store, and the drivers fail on it in ways of their own.
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise InvalidParameter("A search can't contain NUL or half of a surrogate pair.")
