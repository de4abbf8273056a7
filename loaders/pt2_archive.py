"""Whether a ``model.pt2`` is what it ought to be: tensors and a graph, and nothing that runs while it is loaded.

``torch.export.load`` (2.13) unpickles what the archive marks as pickled, evaluates its symbolic shapes with sympy's
``sympify`` and its guards as Python, and imports what its tree specs name. So an archive counts as free of code only
if each of these holds nothing but what exporting a plain module writes.
"""

import ast
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch

_JSON_BYTES_MAX = 256 * 1024 * 1024
_TEXT_RECORDS = {"archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id", "version"}
_MODEL = re.compile(r"models/\w+\.json")
_PAYLOADS = re.compile(r"(data/(?:weights|constants)/)\w+_config\.json")
_TENSOR_NAME = re.compile(r"(?:weight|tensor)_\d+")
_SAMPLE_INPUTS = re.compile(r"data/sample_inputs/\w+\.pt")

_TARGET = re.compile(
    r"torch\.ops\.(?:aten|prims|quantized|higher_order)\.\w+(?:\.\w+)?"
    r"|torch\._higher_order_ops\.\w+(?:\.\w+)*|torch\.sym_\w+|_operator\.\w+|math\.\w+"
)
_FORBIDDEN_TARGETS = {"torch.ops.aten.from_file.default", "_operator.attrgetter", "_operator.methodcaller"}
_TREE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}

_SYMBOL = re.compile(r"[a-z]{1,2}\d+")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_FUNCTIONS = {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs", "floor", "ceiling",
    "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "CeilDiv", "FloorToInt",
    "IntTrueDiv", "FloatTrueDiv", "PowByNatural", "FloatPow", "RoundDecimal", "RoundToInt", "ToFloat", "TruncToInt",
    "TruncToFloat", "Identity", "Piecewise", "ExprCondPair", "And", "Or", "Not", "Eq", "Ne", "Equality", "Unequality",
    "StrictLessThan", "StrictGreaterThan", "LessThan", "GreaterThan",
}  # fmt: skip
_NAMES = _FUNCTIONS | {"L", "oo", "int_oo", "true", "false"}
_SHAPE_ATTRIBUTES = {"size", "shape", "stride", "storage_offset", "dim", "ndim"}
_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Constant, ast.keyword, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop,
    ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop, ast.Subscript, ast.Attribute, ast.Tuple, ast.Load,
)  # fmt: skip


def find_code(path: Path) -> str | None:
    """What in the archive at *path* could run code when it is loaded; None if nothing could.

    Raises:
        zipfile.BadZipFile: if it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        if len({info.filename.lower() for info in infos}) != len(infos):
            # Two readers may take different ones of two equal names.
            return "it holds a record twice"
        if len({info.filename.partition("/")[0] for info in infos}) != 1:
            return "it holds two archives"
        records = {info.filename.partition("/")[2]: info for info in infos}
        tensors: set[str] = set()
        for name, info in records.items():
            if payloads := _PAYLOADS.fullmatch(name):
                found = _find_plain_tensors(_read_json(archive, info))
                if found is None:
                    return f"{name!r} asks for pickled tensors"
                tensors.update(payloads[1] + tensor for tensor in found)
        for name, info in records.items():
            if name not in tensors and (reason := _find_code_in_record(archive, name, info)):
                return reason
    return None


def _find_code_in_record(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> str | None:
    if name in _TEXT_RECORDS or _PAYLOADS.fullmatch(name):
        return None
    if _SAMPLE_INPUTS.fullmatch(name):
        return None if _holds_only_tensors(archive.read(info)) else f"{name!r} is a pickle of more than tensors"
    if _MODEL.fullmatch(name):
        document = _read_json(archive, info)
        return f"{name!r} is no graph" if document is None else _find_code_in_graph(document)
    return f"it holds {name!r}"


def _find_plain_tensors(payloads: Any) -> set[str] | None:
    """The names of the records that are read as raw numbers; None if any is to be unpickled."""
    match payloads:
        case {"config": dict() as config}:
            entries = list(config.values())
        case _:
            return None
    names = set()
    for entry in entries:
        match entry:
            case {"path_name": str() as name, "use_pickle": False} if _TENSOR_NAME.fullmatch(name):
                names.add(name)
            case _:
                return None
    return names


def _holds_only_tensors(content: bytes) -> bool:
    if not content:
        return True
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:
        return False  # whatever the restricted reader said, it isn't plain
    return True


def _find_code_in_graph(document: Any) -> str | None:
    for key, value in _keyed_values(document):
        match key:
            case "expr_str" if not _is_arithmetic(value):
                return f"the shape {value!r:.80}"
            case "guards_code" if not isinstance(value, list) or not all(map(_is_arithmetic, value)):
                return "its guards"
            case "target" | "as_operator" if not _is_operator(value):
                return f"the operator {value!r:.80}"
            case "in_spec" | "out_spec" if not _is_plain_tree(value):
                return f"the types of its {key}"
            case "treespec_namedtuple_fields" | "custom_obj_values" if value:
                return f"its {key}"
            case "as_custom_obj" | "class_fqn":
                return "its custom objects"
            case _:
                pass
    return None


def _keyed_values(document: Any) -> Iterator[tuple[str, Any]]:
    open_ = [document]
    while open_:
        match open_.pop():
            case dict() as fields:
                yield from fields.items()
                open_.extend(fields.values())
            case list() as items:
                open_.extend(items)
            case _:
                pass


def _is_operator(target: Any) -> bool:
    return isinstance(target, str) and bool(_TARGET.fullmatch(target)) and target not in _FORBIDDEN_TARGETS


def _is_arithmetic(text: Any) -> bool:
    """Whether *text* is an expression of numbers, symbols, sizes and the few functions that shapes are made of."""
    if not isinstance(text, str):
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_plain_node(node) for node in ast.walk(tree))


def _is_plain_node(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name):
            return name in _NAMES or bool(_SYMBOL.fullmatch(name))
        case ast.Attribute(attr=name):
            return name in _SHAPE_ATTRIBUTES
        case ast.Constant(value=str() as text):
            return bool(_IDENTIFIER.fullmatch(text))
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float)
        case ast.Call(func=function):
            named = isinstance(function, ast.Name) and function.id in _FUNCTIONS
            return named or (isinstance(function, ast.Attribute) and function.attr in _SHAPE_ATTRIBUTES)
        case _:
            return isinstance(node, _NODES)


def _is_plain_tree(spec: Any) -> bool:
    if spec in {None, ""}:
        return True
    try:
        _, root = msgspec.json.decode(spec)
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
        return False
    return all(value in _TREE_TYPES for key, value in _keyed_values(root) if key == "type")


def _read_json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    if info.file_size > _JSON_BYTES_MAX:
        return None
    try:
        return msgspec.json.decode(archive.read(info))
    except (msgspec.DecodeError, RecursionError):
        return None
