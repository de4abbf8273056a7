"""What versions take and give, read of their files for gates that compare it, before a write is made that they look at.

Not at registration, which reads no byte so that it stays quick; and once, since a version's files don't change.
"""

import contextlib
import hashlib

from loaders.errors import InvalidArtifact
from loaders.mlmodel import MLMODEL_BYTES_MAX, parse_mlmodel
from loaders.signature import Signature, Specs
from loaders.tensors import TensorSpec
from registry import gates, interfaces, manifests
from registry.entities import Field, Interface, ModelVersion
from tracking.artifacts import ArtifactStore
from tracking.database import Database
from tracking.errors import ServingError
from tracking.manifest import DigestMismatch, Manifest


def learn_interfaces(database: Database, store: ArtifactStore, model: str, *versions: int) -> None:
    """Have the registry know *versions* of *model*, and what its aliases mean, if a gate compares them.

    What can't be read stays unknown; the gate says so.
    """
    with database.reading() as session:
        unread = gates.find_uncompared(session, model, versions)
        found = [(version, manifests.find_manifest(session, version)) for version in unread]
    for version, manifest in found:
        # Not within a transaction, which a slow store would have everybody wait for.
        with contextlib.suppress(ServingError, InvalidArtifact):
            if manifest is not None:
                _learn(database, store, version, manifest)


def interface_of(mlmodel: bytes) -> Interface:
    """What the model of this ``MLmodel`` takes and gives.

    Raises:
        InvalidArtifact: if it can't be read.
    """
    signature = Signature.from_mlmodel(parse_mlmodel(mlmodel)) or Signature()
    return Interface(
        inputs=_fields(signature.columns or signature.tensors),
        outputs=_fields(signature.outputs),
        params=tuple(Field(p.name, f"{p.type}s" if p.is_list else p.type.value) for p in signature.params),
    )


def _learn(database: Database, store: ArtifactStore, version: ModelVersion, manifest: Manifest) -> None:
    folder, expected = manifests.folder_of(version.artifact_uri), manifest.files.get(manifests.MLMODEL)
    if folder is None or expected is None or expected.size > MLMODEL_BYTES_MAX:
        return
    with store.open(folder / manifests.MLMODEL) as reader:
        content = b"".join(reader.chunks())
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise DigestMismatch(str(manifests.MLMODEL), "isn't the one in the manifest")
    interface = interface_of(content)
    with database.writing() as session:
        interfaces.keep(session, version.name, version.version, manifest.digest, interface)


def _fields(specs: Specs) -> tuple[Field, ...]:
    return tuple(
        Field(spec.name, spec.dtype, spec.shape)
        if isinstance(spec, TensorSpec)
        else Field(spec.name, spec.type.value, required=spec.required)
        for spec in specs
    )
