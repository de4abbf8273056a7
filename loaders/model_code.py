"""Python files that were saved beside a model (MLflow's ``code_paths``), for pickles that import from them."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loaders.mlmodel import path_inside


def make_importable(model_dir: Path, flavor: Mapping[str, Any]) -> None:
    """Let this process import what *flavor* saved as its code; only for models whose code may run.

    It stays importable: a host holds one version, and what a pickle imports it may import again at each call.
    """
    if flavor.get("code"):
        folder = str(path_inside(model_dir, flavor["code"], "code"))
        if folder not in sys.path:
            # Before the folder that the process was started in, behind nothing: as MLflow does.
            sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
