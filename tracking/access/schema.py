"""The tables of access: users, what they are granted, their tokens, and the keys by which applications score."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from tracking.schema import Base

NAME_LENGTH_MAX = 256
SUBJECT_LENGTH_MAX = 800


class UserRow(Base):
    """Somebody, or something that works for somebody, by name."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX), primary_key=True)
    # NULL where nobody signs in by password: service users, and those that an identity provider vouches for.
    password_hash: Mapped[str | None] = mapped_column(Text)
    # Who this is to an OpenID Connect issuer: its URL, and the subject, which another never gets, as a name may be.
    oidc_subject: Mapped[str | None] = mapped_column(String(SUBJECT_LENGTH_MAX), index=True, unique=True)
    # Whether whoever the issuer calls by this name first is this user.
    oidc_awaited: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    is_disabled: Mapped[bool] = mapped_column(Boolean, default=False)
    created_by: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX))
    created_ms: Mapped[int] = mapped_column(BigInteger)


class GrantRow(Base):
    """One of a user's grants, as `grants.Grant` writes it."""

    __tablename__ = "grants"

    user_name: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"), primary_key=True)
    grant: Mapped[str] = mapped_column("granted", String(600), primary_key=True)
    author: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX))
    created_ms: Mapped[int] = mapped_column(BigInteger)


class TokenRow(Base):
    """A token, or a browser's session: known by the hash of what its holder has."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    beginning: Mapped[str] = mapped_column(String(20))
    is_session: Mapped[bool] = mapped_column(Boolean, default=False)
    # Its own grants, each within its user's; NULL is all that the user has.
    scope: Mapped[list[str] | None] = mapped_column(JSON)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    expires_ms: Mapped[int] = mapped_column(BigInteger)
    last_used_ms: Mapped[int | None] = mapped_column(BigInteger)


class ScoringKeyRow(Base):
    """What an application asks endpoints with: no user, no rights but to score."""

    __tablename__ = "scoring_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX), unique=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    beginning: Mapped[str] = mapped_column(String(20))
    # Names of endpoints; one that ends in * stands for all that begin so.
    endpoints: Mapped[list[Any]] = mapped_column(JSON)
    may_force: Mapped[bool] = mapped_column(Boolean, default=False)
    may_pin: Mapped[bool] = mapped_column(Boolean, default=False)
    # Requests a second that one replica answers it; NULL is no limit.
    rate: Mapped[float | None] = mapped_column(Float)
    author: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    expires_ms: Mapped[int | None] = mapped_column(BigInteger)
    last_used_ms: Mapped[int | None] = mapped_column(BigInteger)


class AccessChangesRow(Base):
    """One row, one number, raised with every change to the tables above but of when something was used."""

    __tablename__ = "access_changes"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
