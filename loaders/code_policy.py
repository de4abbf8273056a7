"""Which models may run code of their own while they load: pickles, and Python files saved with a model."""

from enum import StrEnum

from loaders.errors import CodeNotAllowed

SETTING = "TITLEBOUT_CODE_POLICY"


class CodePolicy(StrEnum):
    ALLOW = "allow"
    REGISTERED = "registered"
    """Only versions whose files are those of a verified manifest."""
    DENY = "deny"

    def allows(self, *, verified: bool) -> bool:
        return self is CodePolicy.ALLOW or (self is CodePolicy.REGISTERED and verified)


def require_allowed(what: str, policy: CodePolicy, *, verified: bool) -> None:
    """Let *what*, a format that runs code while it loads, pass only where *policy* does.

    Raises:
        CodeNotAllowed: naming the format, the setting, and what would be allowed.
    """
    if policy.allows(verified=verified):
        return
    if policy is CodePolicy.REGISTERED:
        raise CodeNotAllowed(
            f"{what} runs code while it loads, and {SETTING}=registered lets only versions with a verified "
            "manifest do that: register the model, so that its files are known by their digests."
        )
    raise CodeNotAllowed(
        f"{what} runs code while it loads, and {SETTING}=deny lets none do that: save the model in a format "
        "without code (scikit-learn: skops, PyTorch: pt2, transformers: safetensors)."
    )
