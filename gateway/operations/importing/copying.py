"""An import from beginning to end."""

import msgspec

from gateway.operations.importing.books import Books, Target
from gateway.operations.importing.counts import Counts, count_here
from gateway.operations.importing.mlflow_server import MlflowServer
from gateway.operations.importing.registry_copies import copy_registry
from gateway.operations.importing.tracking_copies import copy_experiments, copy_logged_models, copy_runs
from gateway.operations.progress import Progress


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an import."""

    there: Counts
    """What the server has."""
    here: Counts
    """What there is here of it, counted in our own tables."""
    copied: Counts
    """What was copied this time."""
    problems: tuple[str, ...]
    """What could not be copied, a sentence each."""


def import_store(server: MlflowServer, target: Target, progress: Progress) -> Report:
    """Copy what is new on *server*, and count both sides.

    Raises:
        ServerUnreachable: if it can't be reached, or not any more; what was copied stays, and another import goes on.
    """
    books = Books(server.url, target, progress)
    places = copy_experiments(server, books)
    copy_runs(server, books, places)
    copy_logged_models(server, books, places)
    copy_registry(server, books)
    with target.database.reading() as session:
        here = count_here(session, server.url, target.store)
    return Report(there=books.there, here=here, copied=books.copied, problems=tuple(books.problems))
