"""The closed set of flavors, and the one door through which a model gets into memory.

Importing this costs nothing: each flavor's module, and the libraries behind it, come in when one is first asked for.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from loaders.acceleration.wish import AccelerationWish
from loaders.code_policy import UNCHECKED, CodePermit, CodePolicy
from loaders.errors import FlavorNotInstalled
from loaders.mlmodel import MLmodel, read_mlmodel
from loaders.transformers_tasks import find_native_task

if TYPE_CHECKING:
    # It brings numpy, which the supervisor, who only asks for flavors, has no use for.
    from loaders.base import LoadedModel

__all__ = ["CodePolicy", "Flavor", "load", "preload", "required_flavor"]


class Flavor(StrEnum):
    SKLEARN = "sklearn"
    PYTORCH = "pytorch"
    TRANSFORMERS = "transformers"
    PYTHON_FUNCTION = "python_function"
    """Custom models, and every flavor that Titlebout has no loader for: through MLflow's own."""


_NATIVE = (Flavor.SKLEARN, Flavor.PYTORCH, Flavor.TRANSFORMERS)

_NEEDS: dict[Flavor, tuple[str, tuple[str, ...]]] = {
    Flavor.SKLEARN: ("titlebout", ("sklearn", "skops")),
    Flavor.PYTORCH: ("titlebout[torch]", ("torch",)),
    Flavor.TRANSFORMERS: ("titlebout[transformers]", ("torch", "transformers")),
    Flavor.PYTHON_FUNCTION: ("titlebout[mlflow]", ("mlflow", "pandas")),
}
"""What to install, and the modules that it brings."""

_MODULES = {
    Flavor.SKLEARN: "loaders.sklearn",
    Flavor.PYTORCH: "loaders.pytorch",
    Flavor.TRANSFORMERS: "loaders.transformers",
    Flavor.PYTHON_FUNCTION: "loaders.pyfunc",
}

_UNUSED = frozenset({"torch", "pandas", "pytest"})
"""What skops brings along where it is installed, as it imports all of scikit-learn to list its types: torch is a second
and a hundred MB, pandas a quarter of a second and 80, pytest what scikit-learn tests itself with. The models that want
tables import pandas when they do.
"""


def required_flavor(mlmodel: MLmodel) -> Flavor:
    """Which flavor will load *mlmodel*, told without importing anything."""
    written_by = mlmodel.flavors.get(Flavor.PYTHON_FUNCTION, {}).get("loader_module")
    for flavor in _NATIVE:
        # A model that keeps an estimator beside code of its own means its code to answer.
        if flavor not in mlmodel.flavors or written_by not in {None, f"mlflow.{flavor}"}:
            continue
        if flavor is Flavor.TRANSFORMERS and find_native_task(mlmodel.flavors[flavor]) is None:
            continue
        return flavor
    return Flavor.PYTHON_FUNCTION


def preload(flavor: Flavor) -> None:
    """Import what *flavor* needs, so that processes forked later have it.

    Raises:
        FlavorNotInstalled: naming the extra that brings what is missing.
    """
    distribution, modules = _NEEDS[flavor]
    for module in modules:
        # Looked for, not imported: the loader's module sets what its libraries read as they come in.
        if importlib.util.find_spec(module) is None:
            raise FlavorNotInstalled(flavor, distribution, module)
    with _hidden(_UNUSED) if flavor is Flavor.SKLEARN else nullcontext():
        importlib.import_module(_MODULES[flavor])
    if flavor is Flavor.SKLEARN:
        from loaders.acceleration import engines  # noqa: PLC0415  (see this module's docstring)

        engines.preload()


@contextmanager
def _hidden(names: AbstractSet[str]) -> Iterator[None]:
    """Have imports of *names* fail as if they weren't installed; what is in already stays."""
    finder = _Hiding(names)
    # A finder, and not a None in sys.modules, which libraries look into to tell whether a module is in use.
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Hiding(MetaPathFinder):
    def __init__(self, names: AbstractSet[str]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002  (importlib's)
        if fullname in self._names:
            raise ModuleNotFoundError(f"{fullname} is hidden here", name=fullname)


def load(
    model_dir: Path,
    policy: CodePolicy,
    *,
    verified: bool,
    unsigned: str | None = UNCHECKED,
    device: str | None = None,
    acceleration: AccelerationWish | None = None,
) -> "LoadedModel":
    """The model saved in *model_dir*, in memory and ready to be called.

    *verified* says that the files are those of a registered version's manifest, and *unsigned* why no trusted key has
    signed that (None if one has), which *policy* may ask for; *device* is for PyTorch and transformers, where None
    takes a GPU if there is one; *acceleration* is for scikit-learn, whose own predict answers where it is None.

    Raises:
        InvalidArtifact: if a file is missing or isn't what it should be.
        CodeNotAllowed: if the format runs code while it loads and *policy* doesn't let it.
        FlavorNotInstalled: naming the extra to install.
    """
    mlmodel = read_mlmodel(model_dir)
    flavor = required_flavor(mlmodel)
    permit = CodePermit(policy=policy, verified=verified, unsigned=unsigned)
    preload(flavor)
    match flavor:
        case Flavor.SKLEARN:
            from loaders import sklearn  # noqa: PLC0415  (see this module's docstring; the same below)

            return sklearn.load(model_dir, mlmodel, permit, acceleration=acceleration)
        case Flavor.PYTORCH:
            from loaders import pytorch  # noqa: PLC0415

            return pytorch.load(model_dir, mlmodel, permit, device=device)
        case Flavor.TRANSFORMERS:
            from loaders import transformers  # noqa: PLC0415

            return transformers.load(model_dir, mlmodel, permit, device=device)
        case Flavor.PYTHON_FUNCTION:
            from loaders import pyfunc  # noqa: PLC0415

            return pyfunc.load(model_dir, mlmodel, permit)
    assert_never(flavor)
