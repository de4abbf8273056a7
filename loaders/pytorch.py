"""PyTorch flavor: a module exported as ``model.pt2``, or pickled whole as ``model.pth``."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind

from loaders import pt2_archive
from loaders.base import Answer, Batch, Form
from loaders.code_policy import CodePermit
from loaders.errors import BadInput, InvalidArtifact
from loaders.mlmodel import MLmodel, path_inside
from loaders.model_code import make_importable
from loaders.requirements import pin_warnings

FLAVOR = "pytorch"
_UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, ImportError, AttributeError, LookupError,
    TypeError, ValueError, RuntimeError, AssertionError,
)  # fmt: skip


class ModuleInput:
    """What a module takes for one of its inputs; None where that can't be told from outside."""

    def __init__(self, dtype: torch.dtype | None, rows: int | None) -> None:
        self.dtype = dtype
        self.rows = rows
        """The only batch size that it was exported for."""


class PytorchModel:
    """One module in evaluation mode. Calls share its weights and change nothing."""

    flavor = FLAVOR
    batchable = True

    def __init__(
        self,
        module: Any,
        predictor: str,
        device: torch.device,
        *,
        inputs: Sequence[ModuleInput] = (),
        has_signature: bool,
        notes: tuple[str, ...],
    ) -> None:
        self.predictor = predictor
        self.warnings = notes
        self._module = module
        self._device = device
        self._inputs = inputs
        self._has_signature = has_signature
        self._float_dtype = next((part.dtype for part in _weights(module) if part.is_floating_point()), torch.float32)
        self._takes_indices = any(
            isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag) for part in module.modules()
        )

    @torch.inference_mode()
    def predict(self, batch: Batch, params: Mapping[str, Any]) -> Answer:
        """The module's output: an array; a table of columns "0", "1", … for a table, as with MLflow."""
        tensors = [self._tensor(place, array) for place, array in enumerate(_arrays(batch))]
        fixed = next((input_.rows for input_ in self._inputs if input_.rows is not None), None)
        try:
            output = self._module(*tensors, **params) if fixed is None else self._in_pieces(tensors, fixed, batch.rows)
        except (RuntimeError, AssertionError) as error:
            # Nothing was known of the input before; an input that a signature let pass is the model's own trouble.
            if self._has_signature or isinstance(error, torch.OutOfMemoryError):
                raise
            raise BadInput(f"The model refuses the input: {str(error).splitlines()[0]}") from error
        return _answer(output, batch.form)

    def _tensor(self, place: int, array: np.ndarray) -> torch.Tensor:
        if array.dtype.kind not in "fiub":
            raise BadInput(f"The model takes numbers, got {array.dtype}.")
        # Writable and contiguous, which arrays that were read from a message aren't.
        tensor = torch.from_numpy(np.array(array, order="C"))
        return tensor.to(self._device, self._input_dtype(place, tensor))

    def _input_dtype(self, place: int, tensor: torch.Tensor) -> torch.dtype:
        if place < len(self._inputs) and (known := self._inputs[place].dtype) is not None:
            return known
        if tensor.is_floating_point():
            # JSON gives doubles, and almost no module has weights of that width.
            return self._float_dtype
        if self._has_signature or self._takes_indices:
            return tensor.dtype
        # [[5, 3, 1, 0]] to a model of floats: whole numbers by chance.
        return self._float_dtype

    def _in_pieces(self, tensors: list[torch.Tensor], size: int, rows: int) -> Any:
        """The output for any number of *rows* from a module exported for *size* rows alone.

        MLflow exports the batch size of a one-row input example as a constant (torch specialises ones and zeros).
        The last piece is filled up with copies of its last row, whose answers are dropped.
        """
        pieces = []
        for start in range(0, rows, size):
            part = [tensor[start : start + size] for tensor in tensors]
            lacking = size - len(part[0])
            if lacking:
                part = [torch.cat([tensor, tensor[-1:].expand(lacking, *tensor.shape[1:])]) for tensor in part]
            pieces.append(_map_tensors(self._module(*part), lambda tensor, keep=size - lacking: tensor[:keep]))
        if not pieces:
            raise BadInput("The model takes at least one row, got none.")
        return _concatenated(pieces)


def load(model_dir: Path, mlmodel: MLmodel, permit: CodePermit, *, device: str | None = None) -> PytorchModel:
    """The module saved in *model_dir*, on *device* (by default on a GPU if there is one).

    Raises:
        CodeNotAllowed: if loading it runs code and *permit* doesn't let that be.
        InvalidArtifact: if it can't be read.
    """
    flavor = mlmodel.flavors[FLAVOR]
    folder = path_inside(model_dir, flavor.get("model_data"), "pytorch.model_data")
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    exported, pickled = folder / "model.pt2", folder / "model.pth"
    inputs: Sequence[ModuleInput] = ()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if exported.is_file():
            program = _read_exported(exported, permit, device=target)
            module, predictor, inputs = program.module(), "torch.export", _inputs_of(program)
        elif pickled.is_file():
            permit.require("The model's file 'model.pth' (a pickle)")
            make_importable(model_dir, flavor)
            module, predictor = _read_pickled(pickled, target), "torch"
        else:
            raise InvalidArtifact("data/model.pt2", "expected it or data/model.pth, found neither")
    notes = [*pin_warnings(model_dir, "torch"), *(str(warning.message).splitlines()[0] for warning in caught)]
    if exported.is_file() and _has_dropout(program):
        notes.append("The model was exported in training mode: its dropout is at work, so its answers vary.")
    return PytorchModel(
        module,
        predictor,
        target,
        inputs=inputs,
        has_signature=bool(mlmodel.signature),
        notes=tuple(dict.fromkeys(notes)),
    )


def _read_exported(path: Path, permit: CodePermit, *, device: torch.device) -> Any:
    try:
        reason = pt2_archive.find_code(path)
        if reason:
            permit.require(f"The model's file {path.name!r}, of which {reason},")
        program = torch.export.load(path)
        if any(tensor.device.type != device.type for tensor in _program_tensors(program)):
            from torch.export.passes import move_to_device_pass  # noqa: PLC0415  (only where there is a GPU)

            program = move_to_device_pass(program, device)
    except _UNREADABLE as error:
        raise _unreadable(path, "torch.export", error) from error
    return program


def _read_pickled(path: Path, device: torch.device) -> torch.nn.Module:
    try:
        module = torch.load(path, map_location=device, weights_only=False)  # nosec B614 # the code policy allowed it
    except _UNREADABLE as error:
        raise _unreadable(path, "torch.save", error) from error
    if not isinstance(module, torch.nn.Module):
        raise InvalidArtifact(path.name, f"expected a torch.nn.Module, found a {type(module).__name__}")
    return module.to(device).eval()


def _unreadable(path: Path, writer: str, error: Exception) -> InvalidArtifact:
    reason = (f"{type(error).__name__} {error}".splitlines() or [""])[0]
    return InvalidArtifact(path.name, f"expected what {writer} writes, reading it gave {reason}")


def _inputs_of(program: Any) -> list[ModuleInput]:
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    inputs = []
    for name in names:
        value = values.get(name)
        if isinstance(value, torch.Tensor):
            rows = value.shape[0] if value.ndim else None
            inputs.append(ModuleInput(value.dtype, rows if isinstance(rows, int) else None))
        else:
            inputs.append(ModuleInput(None, None))
    return inputs


def _has_dropout(program: Any) -> bool:
    dropouts = {"aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default"}
    return any(
        node.op == "call_function" and str(node.target) in dropouts and node.args[2] is True
        for node in program.graph.nodes
    )


def _program_tensors(program: Any) -> list[torch.Tensor]:
    return [value for value in program.state_dict.values() if isinstance(value, torch.Tensor)]


def _weights(module: Any) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _arrays(batch: Batch) -> list[np.ndarray]:
    if batch.form is not Form.TABLE:
        return list(batch.columns.values())
    columns = list(batch.columns.values())
    if any(column.ndim != 1 or column.dtype.kind not in "fiub" for column in columns):
        raise BadInput("The model takes columns of numbers.")
    return [np.column_stack(columns).astype(np.float32)]


def _answer(output: Any, asked: Form) -> Answer:
    match output:
        case torch.Tensor() if asked is Form.TABLE and output.ndim <= 2:
            matrix = _numpy(output).reshape(len(output), -1)
            return Batch(Form.TABLE, {str(place): column for place, column in enumerate(matrix.T)})
        case torch.Tensor():
            return Batch(Form.TENSOR, {"": _numpy(output)})
        case tuple() | list() if output and all(isinstance(part, torch.Tensor) for part in output):
            return Batch(Form.TENSORS, {str(place): _numpy(part) for place, part in enumerate(output)})
        case Mapping() if output and all(isinstance(part, torch.Tensor) for part in output.values()):
            return Batch(Form.TENSORS, {str(name): _numpy(part) for name, part in output.items()})
        case _:
            raise TypeError(f"The module gave a {type(output).__name__}; expected tensors.")


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype is torch.bfloat16:
        # numpy has no such numbers; float32 holds each of them.
        tensor = tensor.float()
    array: np.ndarray = np.atleast_1d(tensor.cpu().numpy())
    return array


def _map_tensors(output: Any, change: Any) -> Any:
    match output:
        case torch.Tensor():
            return change(output)
        case tuple() | list():
            return tuple(_map_tensors(part, change) for part in output)
        case Mapping():
            return {name: _map_tensors(part, change) for name, part in output.items()}
        case _:
            return output


def _concatenated(pieces: list[Any]) -> Any:
    match pieces[0]:
        case torch.Tensor():
            return torch.cat(pieces)
        case tuple() | list():
            return tuple(_concatenated([piece[place] for piece in pieces]) for place in range(len(pieces[0])))
        case Mapping():
            return {name: _concatenated([piece[name] for piece in pieces]) for name in pieces[0]}
        case _:
            return pieces[0]
