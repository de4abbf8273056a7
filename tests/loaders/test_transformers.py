import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loaders import catalog, signature
from loaders.base import Form
from loaders.catalog import CodePolicy, Flavor
from loaders.errors import BadInput, CodeNotAllowed, InvalidArtifact
from loaders.mlmodel import MLmodel, read_mlmodel
from loaders.payload import Nested, Table

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "a", "very", "film"]
TEXTS = ["good film", "a very very bad film", "bad"]


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordPiece({word: place for place, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=16,
    )  # fmt: skip


@pytest.fixture
def pipeline(tokenizer):
    """A tiny BERT with random weights, large ones, so that its answers differ."""
    import torch
    import transformers

    def make(task, head):
        torch.manual_seed(1)
        config = transformers.BertConfig(
            vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=16, initializer_range=1.0,
            id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1},
        )  # fmt: skip
        return transformers.pipeline(task, model=getattr(transformers, head)(config).eval(), tokenizer=tokenizer)

    return make


def save_pipeline(save, pipeline):
    return save("transformers", pipeline, pip_requirements=["transformers"])


def predict(path, data, policy=CodePolicy.DENY):
    enforced = signature.Signature.from_mlmodel(read_mlmodel(path))
    return catalog.load(path, policy, verified=False, device="cpu").predict(*signature.enforce(enforced, data))


def test_a_text_classifier_gives_label_and_score_for_each_text(save, pipeline):
    classifier = pipeline("text-classification", "BertForSequenceClassification")
    path = save_pipeline(save, classifier)
    alone = [classifier(text)[0] for text in TEXTS]
    answer = predict(path, Nested(TEXTS))
    assert answer.form is Form.TABLE
    assert answer.columns["label"].tolist() == [output["label"] for output in alone]
    np.testing.assert_allclose(answer.columns["score"], [output["score"] for output in alone], rtol=1e-5)
    named = predict(path, Table(["text"], [TEXTS]))
    assert named.columns["label"].tolist() == answer.columns["label"].tolist()


@pytest.mark.parametrize(
    ("task", "head"),
    [("text-classification", "BertForSequenceClassification"), ("feature-extraction", "BertModel")],
)
def test_texts_of_unequal_length_go_through_the_module_in_one_padded_batch(save, pipeline, task, head):
    import torch

    path = save_pipeline(save, pipeline(task, head))
    model = catalog.load(path, CodePolicy.DENY, verified=False, device="cpu")
    seen = []

    def watch(_, args, named):
        assert torch.is_inference_mode_enabled()
        seen.append((named.get("input_ids") if not args else args[0]).shape)

    model._pipeline.model.register_forward_pre_hook(watch, with_kwargs=True)
    enforced = signature.Signature.from_mlmodel(read_mlmodel(path))
    model.predict(*signature.enforce(enforced, Nested(TEXTS)))
    # The longest has five words and a sign at each end.
    assert seen == [(3, 7)]


def test_a_text_longer_than_the_model_is_cut(save, pipeline):
    path = save_pipeline(save, pipeline("text-classification", "BertForSequenceClassification"))
    assert predict(path, Nested(["very " * 100])).columns["label"].tolist() in (["neg"], ["pos"])


def test_features_are_one_vector_a_text_and_the_same_alone_or_together(save, pipeline):
    path = save_pipeline(save, pipeline("feature-extraction", "BertModel"))
    together = predict(path, Nested(TEXTS)).columns[""]
    assert together.shape == (3, 8)
    for row, text in zip(together, TEXTS, strict=True):
        np.testing.assert_allclose(predict(path, Nested([text])).columns[""][0], row, atol=1e-5)


def test_masks_are_filled_with_the_likeliest_word(save, pipeline):
    filler = pipeline("fill-mask", "BertForMaskedLM")
    texts = ["a [MASK] film", "very [MASK]"]
    answer = predict(save_pipeline(save, filler), Nested(texts))
    assert answer.columns[""].tolist() == [filler(text)[0]["token_str"] for text in texts]


def test_rows_that_are_no_texts_are_bad_input(save, pipeline):
    path = save_pipeline(save, pipeline("text-classification", "BertForSequenceClassification"))
    for rows in ([1, 2], [None]):
        with pytest.raises(BadInput):
            predict(path, Nested(rows))


def test_classes_of_the_models_own_are_refused_without_leave(save, pipeline):
    path = save_pipeline(save, pipeline("text-classification", "BertForSequenceClassification"))
    config = path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(CodeNotAllowed, match="classes of its own"):
        predict(path, Nested(TEXTS))


def test_damaged_weights_are_refused(save, pipeline):
    path = save_pipeline(save, pipeline("text-classification", "BertForSequenceClassification"))
    (path / "model" / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(InvalidArtifact, match="safetensors"):
        predict(path, Nested(TEXTS))


def test_weights_that_lie_at_a_hub_are_refused(save, pipeline):
    path = save_pipeline(save, pipeline("text-classification", "BertForSequenceClassification"))
    text = (path / "MLmodel").read_text()
    (path / "MLmodel").write_text(text.replace("    model_binary: model\n", "    source_model_name: bert-base\n", 1))
    with pytest.raises(InvalidArtifact, match="model_binary"):
        predict(path, Nested(TEXTS))


def test_loading_needs_no_network(save, pipeline):
    path = save_pipeline(save, pipeline("text-classification", "BertForSequenceClassification"))
    script = (
        "import socket, sys\nfrom pathlib import Path\nfrom loaders import catalog\n"
        "def refuse(*arguments): raise AssertionError('a connection was asked for')\n"
        "socket.socket.connect = refuse\nsocket.getaddrinfo = refuse\n"
        "catalog.load(Path(sys.argv[1]), catalog.CodePolicy.DENY, verified=False, device='cpu')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script, str(path)], env=environment, check=True, timeout=120)


def test_tasks_that_need_mlflows_own_work_go_through_mlflow():
    flavor = {"task": "text-generation", "inference_task": "llm/v1/chat"}
    assert catalog.required_flavor(MLmodel(flavors={"transformers": flavor})) is Flavor.PYTHON_FUNCTION
    assert catalog.required_flavor(MLmodel(flavors={"transformers": {"task": "ner"}})) is Flavor.TRANSFORMERS
