"""Which models may run code of their own while they load: pickles, and Python files saved with a model."""

from enum import StrEnum

import msgspec

from loaders.errors import CodeNotAllowed, CodeNotSigned

SETTING = "TITLEBOUT_CODE_POLICY"

UNCHECKED = "nobody has looked for a signature"


class CodePolicy(StrEnum):
    ALLOW = "allow"
    REGISTERED = "registered"
    """Only versions whose files are those of a verified manifest."""
    SIGNED = "signed"
    """Only those of them whose manifest is signed by a trusted key."""
    DENY = "deny"


class CodePermit(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy makes of one model: whether its own code may run while it loads."""

    policy: CodePolicy
    verified: bool
    """The files are those of a registered version's manifest."""
    unsigned: str | None = UNCHECKED
    """Why no trusted key vouches for them, as a clause for people; None if one does."""

    def require(self, what: str) -> None:
        """Let *what*, a format that runs code while it loads, pass only where the policy does.

        Raises:
            CodeNotAllowed: naming the format, the setting, and what would be allowed.
            CodeNotSigned: if a signature is what is missing.
        """
        match self.policy:
            case CodePolicy.ALLOW:
                return
            case CodePolicy.REGISTERED if not self.verified:
                raise CodeNotAllowed(
                    f"{what} runs code while it loads, and {SETTING}=registered lets only versions with a verified "
                    "manifest do that: register the model, so that its files are known by their digests."
                )
            case CodePolicy.SIGNED if not self.verified or self.unsigned is not None:
                raise CodeNotSigned(
                    f"{what} runs code while it loads, and {SETTING}=signed lets only versions that a trusted key has "
                    f"signed do that: {self.unsigned or 'its files are not known by their digests'}."
                )
            case CodePolicy.DENY:
                raise CodeNotAllowed(
                    f"{what} runs code while it loads, and {SETTING}=deny lets none do that: save the model in a "
                    "format without code (scikit-learn: skops, PyTorch: pt2, transformers: safetensors)."
                )
            case _:
                return
