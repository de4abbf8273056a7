"""Which transformers models Titlebout answers by itself, told from ``MLmodel`` without importing anything."""

from collections.abc import Mapping
from typing import Any

_NATIVE = {"text-classification", "token-classification", "fill-mask", "feature-extraction", "text-generation"}
_ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}
_MLFLOWS_OWN = ("inference_task", "prompt_template", "peft_adaptor")
"""Keys by which MLflow adds work of its own around the pipeline: chat and completion formats, prompts, adaptors."""


def find_native_task(flavor: Mapping[str, Any]) -> str | None:
    """The task of *flavor*, if it takes texts and needs nothing of MLflow's own; the others go through MLflow."""
    task = flavor.get("task")
    task = _ALIASES.get(str(task), task)
    if task not in _NATIVE or any(flavor.get(key) for key in _MLFLOWS_OWN):
        return None
    return str(task)
