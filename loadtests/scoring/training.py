"""Trains one model and registers it with the stock client.

``python -m loadtests.scoring.training URL MODEL FORM FOLDER``: a program of its own, because the client and the
model's libraries have no place beside what is measured. Leaves in FOLDER what other servers load and what the model
answers offline.
"""

import sys
import warnings
from pathlib import Path
from random import Random
from typing import Any

import joblib
import mlflow
import msgspec
import numpy as np
from mlflow import MlflowClient
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from loadtests.answers import draw_rows
from loadtests.scoring.models import ESTIMATOR, EXAMPLES, FOREST, LOGISTIC, SAVED, TEXT, Examples

_ROWS = 1000
_TEXTS = 64
_WORDS_PER_TEXT = (4, 24)
_VOCABULARY = [f"word{number}" for number in range(1000)]
# Large weights, so that untrained answers differ from each other.
_INITIALIZER_RANGE = 0.5
_KINDS = {
    LOGISTIC: lambda: LogisticRegression(max_iter=500),
    FOREST: lambda: RandomForestClassifier(100, random_state=0),
}


def main() -> None:
    url, model, form, folder = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(url)
    folder.mkdir(parents=True, exist_ok=True)
    logged, examples = (
        _text_classifier(folder) if model == TEXT else _estimator(model, folder, named=form == "dataframe")
    )
    (folder / EXAMPLES).write_bytes(msgspec.json.encode(examples))
    mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(folder / SAVED))
    MlflowClient().set_registered_model_alias(model, "champion", logged.registered_model_version)
    # The challenger, which isn't in memory before it has its alias.
    mlflow.register_model(logged.model_uri, model)


def _estimator(model: str, folder: Path, *, named: bool) -> tuple[Any, Examples]:
    features, labels = load_iris(return_X_y=True, as_frame=True)
    bare = _KINDS[model]().fit(features.to_numpy(), labels)
    joblib.dump(bare, folder / ESTIMATOR)
    rows = draw_rows(Random(0), _ROWS)
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            _KINDS[model]().fit(features, labels) if named else bare,
            name="model",
            registered_model_name=model,
            input_example=features[:2] if named else features[:2].to_numpy(),
            pip_requirements=["scikit-learn", "skops"],
            skops_trusted_types=["sklearn.tree._tree.Tree"],
        )
    return logged, Examples(rows, bare.predict(np.array(rows)).tolist(), list(features.columns) if named else [])


def _text_classifier(folder: Path) -> tuple[Any, Examples]:
    """A transformer of BERT-tiny's shape with random weights: what it costs doesn't depend on what it has learned."""
    # Here, because torch takes seconds to import and the other models don't need it.
    import torch  # noqa: PLC0415
    import transformers as typed_transformers  # noqa: PLC0415

    # Its types know neither all of its names nor all that may be handed to a pipeline.
    transformers: Any = typed_transformers
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_VOCABULARY]))
    tokenizer = transformers.BertTokenizerFast(vocab=str(vocabulary), model_max_length=128)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=128,
        initializer_range=_INITIALIZER_RANGE,
    )
    classifier = transformers.pipeline(
        "text-classification", model=transformers.BertForSequenceClassification(config).eval(), tokenizer=tokenizer
    )
    random = Random(0)
    texts = [" ".join(random.choices(_VOCABULARY, k=random.randint(*_WORDS_PER_TEXT))) for _ in range(_TEXTS)]
    with mlflow.start_run():
        logged = mlflow.transformers.log_model(
            classifier,
            name="model",
            registered_model_name=TEXT,
            input_example=texts[:2],
            pip_requirements=["transformers", "torch"],
        )
    return logged, Examples(texts, [classifier(text)[0] for text in texts])


if __name__ == "__main__":
    main()
