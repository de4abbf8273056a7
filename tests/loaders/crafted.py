"""Models made to run code that nobody asked for, each in one folder: what a load under `deny` must refuse.

The payload of each makes a file, the marker. *live* are those that make it where the policy is `allow`, which shows
that the payload is one; the others are refused everywhere.
"""

import json
import pickle
import stat
import zipfile
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import joblib
import numpy as np
import skops.io
from sklearn.linear_model import LogisticRegression


class Payload:
    """Makes the marker as it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


class Crafted(NamedTuple):
    """One of them."""

    name: str
    build: Callable[[Path, Path], None]
    """Fills a folder; the second path is the marker's."""
    live: bool
    flavor: str = "sklearn"


def _mlmodel(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text(text)


def _sklearn(folder: Path, file: str, content: bytes, format_: str | None = None, more: str = "") -> None:
    said = "" if format_ is None else f", serialization_format: {format_}"
    _mlmodel(
        folder,
        f"flavors:\n  sklearn: {{pickled_model: {file}{said}{more}}}\n"
        "  python_function: {loader_module: mlflow.sklearn}\n",
    )
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(content)


def _pickled(file: str, format_: str | None) -> Callable[[Path, Path], None]:
    return lambda folder, marker: _sklearn(folder, file, pickle.dumps(Payload(marker)), format_)


def _by_joblib(compress: Any) -> Callable[[Path, Path], None]:
    def build(folder: Path, marker: Path) -> None:
        buffer = BytesIO()
        joblib.dump({"estimator": Payload(marker), "weights": np.ones(3)}, buffer, compress=compress)
        _sklearn(folder, "model.joblib", buffer.getvalue(), "joblib")

    return build


def _nested(folder: Path, marker: Path) -> None:
    """An archive of an archive of a pickle, under a name that ends like a model without code."""
    inner = _zipped({"model.pkl": pickle.dumps(Payload(marker))})
    _sklearn(folder, "model.skops", _zipped({"model.skops": inner, "schema.json": inner}), "skops")


def _inside_a_pickle(folder: Path, marker: Path) -> None:
    """A pickle of an innocent estimator, with another one behind a harmless attribute's name."""
    estimator = LogisticRegression()
    estimator.note = pickle.dumps(Payload(marker))
    estimator.coef_ = Payload(marker)
    _sklearn(folder, "model.pkl", pickle.dumps(estimator), "pickle")


def _object_array(folder: Path, marker: Path) -> None:
    """A skops file, one array of which is one of objects: numpy's own way to a pickle."""
    buffer = BytesIO()
    np.save(buffer, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    _sklearn(folder, "model.skops", _skops_with(lambda name: name.endswith(".npy"), buffer.getvalue()), "skops")


def _skops_with(chosen: Callable[[str], bool], content: bytes) -> bytes:
    """A fitted estimator's file, with *content* for each record of a *chosen* name."""
    fitted = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with zipfile.ZipFile(BytesIO(skops.io.dumps(fitted))) as source:
        return _zipped({name: content if chosen(name) else source.read(name) for name in source.namelist()})


def _skops(tree: Callable[[Path], dict[str, Any]], more: str = "") -> Callable[[Path, Path], None]:
    def build(folder: Path, marker: Path) -> None:
        schema = {"protocol": 2, "_skops_version": "0.16.0", **tree(marker)}
        _sklearn(folder, "model.skops", _zipped({"schema.json": json.dumps(schema).encode()}), "skops", more)

    return build


def _node(loader: str, module: str, class_: str, **content: Any) -> dict[str, Any]:
    return {"__loader__": loader, "__module__": module, "__class__": class_, **content}


def _json(value: Any) -> dict[str, Any]:
    return _node("JsonNode", "builtins", "str", content=json.dumps(value))


def _tuple(*items: dict[str, Any]) -> dict[str, Any]:
    return _node("TupleNode", "builtins", "tuple", content=list(items))


def _called_by_operator(marker: Path) -> dict[str, Any]:
    """`operator.call(os.system, "touch …")`, which runs as the tree is put together."""
    function = _node("FunctionNode", "posix", "system")
    return _node("OperatorFuncNode", "operator", "call", attrs=_tuple(function, _json(f"touch {marker}")))


def _method_of_a_path(marker: Path) -> dict[str, Any]:
    """A method of an object of another type than it says."""
    path = _node("ObjectNode", "pathlib", "PosixPath", content=_json(str(marker)))
    method = _node("MethodNode", "sklearn.linear_model._logistic", "LogisticRegression")
    return {**method, "content": {"obj": path, "func": "touch"}}


def _partial_within_an_estimator(marker: Path) -> dict[str, Any]:
    """A trusted estimator that would call a function of the file's choice when it predicts."""
    content = {
        "func": _node("FunctionNode", "posix", "system"),
        "args": _tuple(_json(f"touch {marker}")),
        "kwds": _node("DictNode", "builtins", "dict", key_types=_list(), content={}),
        "namespace": _json(None),
    }
    function = _node("PartialNode", "functools", "partial", content=content)
    state = _node("DictNode", "builtins", "dict", key_types=_list(), content={"func": function})
    return _node("ObjectNode", "sklearn.preprocessing._function_transformer", "FunctionTransformer", content=state)


def _list() -> dict[str, Any]:
    return _node("ListNode", "builtins", "list", content=[])


def _of_another_time(marker: Path) -> dict[str, Any]:
    """The form of skops' first releases, whose function is named in another place than the audit's first look."""
    function = {"module_path": "posix", "function": "system"}
    return {**_node("FunctionNode", "numpy", "add", content=function), "protocol": 0}


def _links_and_ways_out(folder: Path, marker: Path) -> None:
    """A real estimator's file that would also leave a file beside the folder and a link, were it ever unpacked."""
    content = BytesIO(_skops_with(lambda _: False, b""))
    with zipfile.ZipFile(content, "a") as archive:
        up = "../" * 20
        archive.writestr(f"{up}{str(marker).lstrip('/')}", b"")
        link = zipfile.ZipInfo("link.npy")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(marker.parent))
        archive.writestr(f"link.npy/{marker.name}", b"")
    _sklearn(folder, "model.skops", content.getvalue(), "skops")


def _linked_out(folder: Path, marker: Path) -> None:
    """A file of the model that is a link to a pickle outside."""
    outside = folder.parent / f"{folder.name}-outside"
    outside.write_bytes(pickle.dumps(Payload(marker)))
    _sklearn(folder, "model.skops", b"", "pickle")
    (folder / "model.skops").unlink()
    (folder / "model.skops").symlink_to(outside)


def _path_out(folder: Path, marker: Path) -> None:
    """A name in `MLmodel` that leads out of the folder."""
    _sklearn(folder, "model.pkl", b"", "pickle")
    (folder.parent / "elsewhere.pkl").write_bytes(pickle.dumps(Payload(marker)))
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("model.pkl", "../elsewhere.pkl"))


def _yaml_tag(folder: Path, marker: Path) -> None:
    _mlmodel(folder, f"flavors: !!python/object/apply:os.system ['touch {marker}']\n")


# --- python_function


_ANSWERED_BY = "  python_function: {{loader_module: {module}, code: code, data: data}}\n"


def _module(folder: Path, marker: Path) -> str:
    """A module among the model's own files that makes the marker when it is imported; gives its name."""
    # Python imports a name once.
    name = f"crafted_{crc32(str(marker).encode())}"
    for part in ("code", "data"):
        (folder / part).mkdir(parents=True)
    (folder / "code" / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    return name


def _own_loader(folder: Path, marker: Path) -> None:
    module = _module(folder, marker)
    _mlmodel(folder, "flavors:\n" + _ANSWERED_BY.format(module=module))


def _own_loader_beside_skops(folder: Path, marker: Path) -> None:
    """The estimator is honest; the module that answers for it isn't."""
    module = _module(folder, marker)
    (folder / "model.skops").write_bytes(_skops_with(lambda _: False, b""))
    sklearn = "  sklearn: {pickled_model: model.skops, serialization_format: skops}\n"
    _mlmodel(folder, "flavors:\n" + sklearn + _ANSWERED_BY.format(module=module))


# --- PyTorch


def _torch(folder: Path, file: str, content: bytes) -> None:
    _mlmodel(folder, "flavors:\n  pytorch: {model_data: data}\n  python_function: {loader_module: mlflow.pytorch}\n")
    (folder / "data").mkdir()
    (folder / "data" / file).write_bytes(content)


def _saved_by_torch(file: str, *, new: bool) -> Callable[[Path, Path], None]:
    def build(folder: Path, marker: Path) -> None:
        import torch

        buffer = BytesIO()
        torch.save({"weights": torch.ones(2), "more": Payload(marker)}, buffer, _use_new_zipfile_serialization=new)
        _torch(folder, file, buffer.getvalue())

    return build


def _archive_of_torch(file: str) -> Callable[[Path, Path], None]:
    """What PyTorch's own reader takes for a saved module, though no PyTorch wrote it."""

    def build(folder: Path, marker: Path) -> None:
        records = {"data.pkl": pickle.dumps(Payload(marker), protocol=2), "byteorder": b"little", "version": b"3\n"}
        _torch(folder, file, _zipped({f"archive/{name}": content for name, content in records.items()}))

    return build


def _exported(change: Callable[[dict[str, bytes], Path], None]) -> Callable[[Path, Path], None]:
    """An exported module, the records of which *change* has had in hand."""

    def build(folder: Path, marker: Path) -> None:
        records = dict(_exported_module())
        change(records, marker)
        _torch(folder, "model.pt2", _zipped(records))

    return build


@cache
def _exported_module() -> dict[str, bytes]:
    import torch

    buffer = BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(2, 1), (torch.ones(2, 2),)), buffer)
    with zipfile.ZipFile(buffer) as source:
        return {name: source.read(name) for name in source.namelist()}


def _pickle_as_sample_input(records: dict[str, bytes], marker: Path) -> None:
    name = next(name for name in records if "sample_inputs" in name)
    records[name] = _torch_pickle(marker)


def _pickled_weights(records: dict[str, bytes], marker: Path) -> None:
    name = next(name for name in records if name.endswith("weights_config.json"))
    config = json.loads(records[name])
    for entry in config["config"].values():
        entry["use_pickle"] = True
        records[f"{name.rpartition('/')[0]}/{entry['path_name']}"] = _torch_pickle(marker)
    records[name] = json.dumps(config).encode()


def _torch_pickle(marker: Path) -> bytes:
    import torch

    buffer = BytesIO()
    torch.save(Payload(marker), buffer)
    return buffer.getvalue()


def _way_out(records: dict[str, bytes], marker: Path) -> None:
    root = next(iter(records)).partition("/")[0]
    records[f"{root}/{'../' * 20}{str(marker).lstrip('/')}"] = b""


# --- transformers


def _bert(folder: Path, *, weights: bool = True) -> None:
    """A whole model of the smallest kind, of which one file or two are then crafted."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=4, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=8,
    )  # fmt: skip
    words = Tokenizer(models.WordPiece({"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    if weights:
        transformers.BertForSequenceClassification(config).save_pretrained(folder / "model")
    else:
        config.architectures = ["BertForSequenceClassification"]
        config.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "components" / "tokenizer")
    _mlmodel(
        folder,
        "flavors:\n  transformers: {task: text-classification, model_binary: model, tokenizer_type: "
        "PreTrainedTokenizerFast, pipeline_model_type: BertForSequenceClassification, framework: pt}\n"
        "  python_function: {loader_module: mlflow.transformers}\n",
    )


def _add(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _own_class(folder: Path, marker: Path) -> None:
    """`auto_map`, to a module beside the weights."""
    _bert(folder)
    _add(
        folder / "model" / "config.json",
        auto_map={"AutoConfig": "crafted.Config", "AutoModel": "crafted.Model"},
        model_type="crafted",
    )
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("BertForSequenceClassification", "Model"))
    (folder / "model" / "crafted.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")


def _own_tokenizer(folder: Path, marker: Path) -> None:
    """`auto_map` of the tokenizer, to a module that isn't there but in a cache of a hub's."""
    _bert(folder)
    path = folder / "components" / "tokenizer" / "tokenizer_config.json"
    _add(path, auto_map={"AutoTokenizer": [None, "somebody/something--crafted.Tokenizer"]}, tokenizer_class="Crafted")


def _pickled_bert(folder: Path, marker: Path) -> None:
    _bert(folder, weights=False)
    (folder / "model" / "pytorch_model.bin").write_bytes(_torch_pickle(marker))


def _pickled_shards(folder: Path, marker: Path) -> None:
    """An index of safetensors that names pickles, and one outside."""
    _bert(folder, weights=False)
    (folder / "model" / "shard.bin").write_bytes(_torch_pickle(marker))
    index = {"metadata": {"total_size": 1}, "weight_map": {"classifier.bias": "shard.bin"}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))


def _other_class(folder: Path, marker: Path) -> None:
    """A class of transformers' that is no model, and reads pickles."""
    _bert(folder)
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("BertForSequenceClassification", "RagRetriever"))


def _zipped(records: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return buffer.getvalue()


SKLEARN = [
    Crafted("a pickle", _pickled("model.pkl", "pickle"), live=True),
    Crafted("a pickle of no stated format", _pickled("model.pkl", None), live=True),
    Crafted("a pickle by another name", _pickled("model.skops", "cloudpickle"), live=True),
    Crafted("a pickle that says it is skops", _pickled("model.skops", "skops"), live=False),
    Crafted("a pickle that says it is JSON", _pickled("model.json", "json"), live=False),
    Crafted("a pickle within an estimator", _inside_a_pickle, live=True),
    Crafted("joblib, by zlib", _by_joblib(("zlib", 3)), live=True),
    Crafted("joblib, by lzma", _by_joblib(("lzma", 3)), live=True),
    Crafted("a pickle in an archive in an archive", _nested, live=False),
    Crafted("skops: an array of objects", _object_array, live=False),
    Crafted("skops: a call by operator", _skops(_called_by_operator), live=False),
    Crafted("skops: a method of something else", _skops(_method_of_a_path), live=False),
    Crafted("skops: a partial in an estimator", _skops(_partial_within_an_estimator), live=False),
    Crafted("skops: an old function", _skops(_of_another_time), live=False),
    Crafted(
        "skops: its own list of trusted types",
        _skops(_called_by_operator, ", skops_trusted_types: [operator.call, posix.system]"),
        live=False,
    ),
    Crafted("skops: links and ways out", _links_and_ways_out, live=False),
    Crafted("a link to a pickle", _linked_out, live=True),
    Crafted("a path out of the folder", _path_out, live=False),
    Crafted("a tag in MLmodel", _yaml_tag, live=False),
]
PYFUNC = [
    Crafted("a loader of its own", _own_loader, live=True, flavor="python_function"),
    Crafted("a loader of its own beside skops", _own_loader_beside_skops, live=True, flavor="python_function"),
]
PYTORCH = [
    Crafted("torch.save", _saved_by_torch("model.pth", new=True), live=True, flavor="pytorch"),
    Crafted("torch.save of old", _saved_by_torch("model.pth", new=False), live=True, flavor="pytorch"),
    Crafted("an archive by hand", _archive_of_torch("model.pth"), live=True, flavor="pytorch"),
    Crafted(
        "an archive by hand that says it is exported", _archive_of_torch("model.pt2"), live=False, flavor="pytorch"
    ),
    Crafted(
        "torch.save that says it is exported", _saved_by_torch("model.pt2", new=True), live=False, flavor="pytorch"
    ),
    Crafted("exported: a pickle as sample input", _exported(_pickle_as_sample_input), live=True, flavor="pytorch"),
    Crafted("exported: pickled weights", _exported(_pickled_weights), live=True, flavor="pytorch"),
    Crafted("exported: a way out", _exported(_way_out), live=False, flavor="pytorch"),
]
TRANSFORMERS = [
    Crafted("transformers: a class of its own", _own_class, live=True, flavor="transformers"),
    Crafted("transformers: a hub's tokenizer", _own_tokenizer, live=False, flavor="transformers"),
    Crafted("transformers: pickled weights", _pickled_bert, live=False, flavor="transformers"),
    Crafted("transformers: pickled shards", _pickled_shards, live=False, flavor="transformers"),
    Crafted("transformers: a class that is no model", _other_class, live=False, flavor="transformers"),
]
ALL = [*SKLEARN, *PYFUNC, *PYTORCH, *TRANSFORMERS]
