"""The transformers example: a tiny model with random weights in place of the download, trained, logged and served."""

import mlflow
import mlflow.transformers
import pytest
import torch
import transformers
from mlflow.tracking import MlflowClient
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, Trainer, TrainingArguments

from tests.guide.served import post, predictions, wait_until_served

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    # The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
    pytest.mark.filterwarnings("ignore"),
]

WORDS = ["a", "the", "film", "was", "good", "bad", "very", "not"]
TEXTS = ["the film was very good", "not good", "a bad film"]


@pytest.fixture
def sentiment(tmp_path):
    """A pipeline for text classification that needs no network."""
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = BertTokenizerFast(vocab=str(vocabulary), model_max_length=32)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, num_labels=2, initializer_range=0.5,
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    return transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)


@pytest.mark.parametrize("example", [{"input_example": ["a text"]}, {}], ids=["with an example", "without one"])
def test_a_text_model_is_served_by_its_alias(url, sentiment, example):
    mlflow.set_experiment("sentiment-analysis")
    with mlflow.start_run(run_name="distilbert-sentiment") as run:
        mlflow.log_metrics({"eval_loss": 0.7, "eval_runtime": 1.5, "epoch": 3.0})
        mlflow.transformers.log_model(
            sentiment,
            name="sentiment",
            registered_model_name="sentiment",
            pip_requirements=["transformers", "torch"],
            **example,
        )
    client = MlflowClient()
    assert client.get_run(run.info.run_id).data.metrics["eval_loss"] == 0.7
    client.set_registered_model_alias("sentiment", "champion", "1")
    wait_until_served(url, "sentiment", champion=1)

    expected = [{"label": one["label"], "score": pytest.approx(one["score"], abs=1e-5)} for one in sentiment(TEXTS)]
    path = "/endpoints/sentiment/invocations"
    assert predictions(url, path, inputs=TEXTS) == expected
    assert predictions(url, "/endpoints/sentiment@champion/invocations", inputs=TEXTS[:1]) == expected[:1]
    assert len(predictions(url, path, inputs=["a text"])) == 1
    loaded = mlflow.pyfunc.load_model("models:/sentiment@champion")
    assert loaded.predict(TEXTS).to_dict("records") == expected
    refused = post(url, path, inputs=[1, 2])
    assert (refused.status_code, set(refused.json())) == (400, {"error_code", "message"})


class Reviews(torch.utils.data.Dataset):
    """Texts with their sentiment, in the form that a Trainer takes."""

    def __init__(self, tokenizer, labelled):
        self._rows = [
            {**tokenizer(text, padding="max_length", truncation=True, max_length=8), "labels": label}
            for text, label in labelled
        ]

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, place):
        return self._rows[place]


def test_a_trainer_logs_its_params_and_metrics_by_itself(url, sentiment, tmp_path):
    mlflow.set_experiment("sentiment-analysis")
    mlflow.transformers.autolog(log_models=True)
    reviews = Reviews(sentiment.tokenizer, [("good", 1), ("very good", 1), ("bad", 0), ("not good", 0)])
    # Without the guide's `logging_dir`, which transformers no longer takes.
    training_args = TrainingArguments(
        output_dir=str(tmp_path / "results"), num_train_epochs=2, per_device_train_batch_size=2,
        per_device_eval_batch_size=2, warmup_steps=1, weight_decay=0.01, logging_steps=1, eval_strategy="epoch",
        save_strategy="epoch", load_best_model_at_end=True, use_cpu=True, report_to=["mlflow"],
    )  # fmt: skip
    trainer = Trainer(model=sentiment.model, args=training_args, train_dataset=reviews, eval_dataset=reviews)
    with mlflow.start_run(run_name="distilbert-sentiment") as run:
        trainer.train()
        eval_results = trainer.evaluate()
        mlflow.log_metrics(eval_results)

    client = MlflowClient()
    found = client.get_run(run.info.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["num_train_epochs"] == "2"
    assert found.data.params["hidden_size"] == "16"
    assert found.data.metrics["eval_loss"] == eval_results["eval_loss"]
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 4
