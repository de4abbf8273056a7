"""transformers flavor: text models saved as safetensors with their tokenizer, by task; never asks a hub.

The answers are those of MLflow's own server, with two exceptions. Many texts are one padded batch, not a loop; and
feature extraction gives one vector a text, where MLflow gives the token vectors of the first text alone.
"""

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Before the import, which reads them: no hub, no telemetry, and no threads of tokenizers' that a fork would lose.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import msgspec
import numpy as np
import torch
import transformers
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from loaders.base import Answer, Batch, Form, JsonAnswer
from loaders.code_policy import CodePermit
from loaders.errors import BadInput, InvalidArtifact
from loaders.mlmodel import MLMODEL_FILE, MLmodel, path_inside, read_bounded
from loaders.requirements import pin_warnings
from loaders.transformers_tasks import find_native_task

# A bar on standard error for each file that is read is for people at a terminal.
transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it has no annotations

FLAVOR = "transformers"
_BATCH_ROWS_MAX = 64
"""Texts in one padded batch; a longer request takes several, so that its memory stays within bounds."""
_CONFIG_BYTES_MAX = 8 * 1024 * 1024
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[\w.-]+\.safetensors")
_CONFIGS = ("config.json", "tokenizer_config.json", "generation_config.json")


class TransformersModel:
    """One pipeline. Its calls share weights and tokenizer, and change nothing."""

    flavor = FLAVOR
    batchable = True

    def __init__(self, pipeline: Any, task: str, config: Mapping[str, Any], notes: tuple[str, ...]) -> None:
        self.predictor = f"transformers {task}"
        self.warnings = notes
        self._pipeline = pipeline
        self._task = task
        self._config = config

    @torch.inference_mode()
    def predict(self, batch: Batch, params: Mapping[str, Any]) -> Answer:
        """For texts (rows,): a table of label and score, an array of texts, or of vectors (rows, width)."""
        texts = _texts(batch)
        if not texts:
            raise BadInput("The model takes at least one text, got none.")
        if self._task == "feature-extraction":
            return Batch(Form.TENSOR, {"": self._embeddings(texts)})
        options = {**self._config, **params}
        batch_size = min(len(texts), _BATCH_ROWS_MAX) if self._pipeline.tokenizer.pad_token_id is not None else 1
        outputs = self._pipeline(texts, batch_size=batch_size, **self._truncation(), **options)
        return _answer(self._task, outputs)

    def _truncation(self) -> dict[str, Any]:
        """Cut texts to what the model was made for; it would otherwise fail on them.

        Tokenizers that know no length say a number beyond any.
        """
        if self._task != "text-classification":
            return {}
        return {"truncation": self._pipeline.tokenizer.model_max_length < 10**9, "padding": True}

    def _embeddings(self, texts: Sequence[Any]) -> np.ndarray:
        """The mean of each text's token vectors, padding left out: (rows, width)."""
        tokenizer, module = self._pipeline.tokenizer, self._pipeline.model
        vectors = []
        for start in range(0, len(texts), _BATCH_ROWS_MAX):
            part = [str(text) for text in texts[start : start + _BATCH_ROWS_MAX]]
            truncation = tokenizer.model_max_length < 10**9
            tokens = tokenizer(part, padding=len(part) > 1, truncation=truncation, return_tensors="pt").to(
                module.device
            )
            states = module(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"].unsqueeze(-1)
            vectors.append((states * mask).sum(1) / mask.sum(1).clamp(min=1))
        array: np.ndarray = torch.cat(vectors).cpu().numpy()
        return array


def load(model_dir: Path, mlmodel: MLmodel, permit: CodePermit, *, device: str | None = None) -> TransformersModel:
    """The pipeline saved in *model_dir*, on *device* (by default on a GPU if there is one).

    Raises:
        CodeNotAllowed: if it brings classes of its own and *permit* doesn't let them run.
        InvalidArtifact: if its files can't be read, or its weights aren't there.
    """
    flavor = mlmodel.flavors[FLAVOR]
    task = find_native_task(flavor)
    if task is None:
        raise InvalidArtifact(MLMODEL_FILE, "expected transformers.task to be one that answers texts")
    weights = path_inside(model_dir, flavor.get("model_binary"), "transformers.model_binary")
    tokenizer = model_dir / "components" / "tokenizer"
    if not weights.is_dir() or not tokenizer.is_dir():
        raise InvalidArtifact(
            weights.name, "expected weights and tokenizer beside MLmodel; save the model with save_pretrained=True"
        )
    _check_shards(weights)
    own_code = _brings_code(weights) or _brings_code(tokenizer)
    if own_code:
        permit.require("A transformers model with classes of its own")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline = _read(weights, tokenizer, flavor, task, device, own_code=own_code)
    notes = dict.fromkeys(
        [*pin_warnings(model_dir, "transformers", "torch"), *(str(note.message).splitlines()[0] for note in caught)]
    )
    config = mlmodel.flavors.get("python_function", {}).get("config") or {}
    return TransformersModel(pipeline, task, config, tuple(notes))


def _read(
    weights: Path, tokenizer: Path, flavor: Mapping[str, Any], task: str, device: str | None, *, own_code: bool
) -> Any:
    type_ = getattr(transformers, str(flavor.get("pipeline_model_type")), None)
    if own_code and type_ is None:
        type_ = transformers.AutoModel
    # Other classes of transformers' have a from_pretrained too, and some read pickles.
    if not (isinstance(type_, type) and issubclass(type_, transformers.PreTrainedModel | _BaseAutoModelClass)):
        raise InvalidArtifact(MLMODEL_FILE, "expected transformers.pipeline_model_type to be a model class")
    try:
        module = type_.from_pretrained(weights, local_files_only=True, trust_remote_code=own_code, use_safetensors=True)
        vocabulary = transformers.AutoTokenizer.from_pretrained(  # nosec B615 # a folder: nothing is downloaded
            tokenizer, local_files_only=True, trust_remote_code=own_code
        )
        make: Any = transformers.pipeline  # it is typed for task names written out, one overload for each
        return make(
            task,
            model=module.eval(),
            tokenizer=vocabulary,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        # It may name the folder, which is nobody's business but this machine's.
        reason = (f"{type(error).__name__} {error}".splitlines() or [""])[0].replace(f"{weights.parent}/", "")
        raise InvalidArtifact(
            weights.name, f"expected safetensors and a tokenizer, reading them gave {reason}"
        ) from error
    except Exception as error:
        # safetensors and tokenizers, in Rust, raise errors that are Exceptions and nothing else.
        raise InvalidArtifact(weights.name, "expected safetensors and a tokenizer, found damaged files") from error


def _brings_code(folder: Path) -> bool:
    """Whether a configuration in *folder* names classes that lie beside it (transformers' ``auto_map``)."""
    for name in _CONFIGS:
        config = _read_object(folder / name) if (folder / name).exists() else {}
        if "auto_map" in config or "custom_pipelines" in config:
            return True
    return any(folder.rglob("*.py"))


def _check_shards(weights: Path) -> None:
    """Hold an index to safetensors in its own folder; transformers would take a file of another name for a pickle."""
    index = weights / _INDEX
    shards = _read_object(index).get("weight_map") if index.exists() else {}
    names = shards.values() if isinstance(shards, dict) else [None]
    if not all(isinstance(name, str) and _SHARD.fullmatch(name) for name in names):
        raise InvalidArtifact(_INDEX, "expected it to name safetensors files beside it")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(read_bounded(path, _CONFIG_BYTES_MAX))
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArtifact(path.name, "expected JSON") from error
    if not isinstance(content, dict):
        raise InvalidArtifact(path.name, "expected a JSON object")
    return content


def _texts(batch: Batch) -> list[Any]:
    """The texts of *batch*, or pairs of them where it has the columns ``text`` and ``text_pair``."""
    columns = batch.columns
    if set(columns) == {"text", "text_pair"}:
        rows = zip(_strings(columns["text"]), _strings(columns["text_pair"]), strict=True)
        return [{"text": text, "text_pair": pair} for text, pair in rows]
    if len(columns) != 1:
        raise BadInput(f"The model takes one column of texts, got {sorted(columns)[:20]}.")
    return _strings(next(iter(columns.values())))


def _strings(column: np.ndarray) -> list[str]:
    texts: list[Any] = column.reshape(len(column)).tolist() if column.size == len(column) else [None]
    if any(type(text) is not str for text in texts):
        raise BadInput("The model takes one text in each row.")
    return texts


def _answer(task: str, outputs: list[Any]) -> Answer:
    match task:
        case "text-classification" if all(isinstance(output, dict) for output in outputs):
            labels = np.array([output["label"] for output in outputs], dtype=object)
            scores = np.array([output["score"] for output in outputs], dtype=np.float64)
            return Batch(Form.TABLE, {"label": labels, "score": scores})
        case "fill-mask" if all(isinstance(output, list) and output for output in outputs):
            return _text_array([_first(output)["token_str"] for output in outputs])
        case "token-classification":
            return _text_array(
                [",".join(token.get("entity_group", token.get("entity")) for token in row) for row in outputs]
            )
        case "text-generation" if all(isinstance(output, list) and len(output) == 1 for output in outputs):
            return _text_array([output[0]["generated_text"] for output in outputs])
        case _:
            return JsonAnswer(json.dumps(outputs, default=float).encode())


def _first(output: Any) -> Any:
    """The best guess for a text's first mask; with several masks there is a list for each."""
    return output[0][0] if isinstance(output[0], list) else output[0]


def _text_array(texts: list[str]) -> Batch:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return Batch(Form.TENSOR, {"": array})
