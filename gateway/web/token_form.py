"""The form by which somebody makes a token of their own: what it asks for, or what is wrong with it. Pure."""

from collections.abc import Collection

import msgspec

from gateway.web.forms import Form
from gateway.web.grant_words import choices_within
from tracking.access.grants import Grant
from tracking.access.schema import NAME_LENGTH_MAX
from tracking.access.tokens import DAY_MS, LIFE_DAYS_MAX
from tracking.errors import InvalidParameter
from tracking.names import check_text

EMPTY = Form({"days": ["90"]})


class FieldWrong(InvalidParameter):
    """What the page says beside *field*."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TokenWish(msgspec.Struct, frozen=True):
    name: str
    life_ms: int
    scope: list[Grant] | None
    """None is all that its user may."""


def read_wish(form: Form, own: Collection[Grant]) -> TokenWish:
    """What *form* asks for, by somebody who has *own*.

    Raises:
        FieldWrong: naming the first field that can't be used.
    """
    return TokenWish(_name(form), _days(form) * DAY_MS, _scope(form, own))


def _name(form: Form) -> str:
    name = form.text("name").strip()
    if not name:
        raise FieldWrong("name", "By its name you will know it in this list: say what it is for.")
    try:
        return check_text(name, "name", NAME_LENGTH_MAX)
    except InvalidParameter as error:
        raise FieldWrong("name", error.message) from error


def _days(form: Form) -> int:
    text = form.text("days").strip()
    # Few digits: Python would spend its time on many.
    days = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(LIFE_DAYS_MAX)) else 0
    if not 0 < days <= LIFE_DAYS_MAX:
        raise FieldWrong("days", f"This is a number from 1 to {LIFE_DAYS_MAX}.")
    return days


def _scope(form: Form, own: Collection[Grant]) -> list[Grant] | None:
    chosen = form.texts("may")
    if not {choice.value for choice in choices_within(own)}.issuperset(chosen):
        raise FieldWrong("may", "A token may do no more than you may.")
    return [Grant.parse(text) for text in chosen] or None
