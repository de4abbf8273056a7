"""What a caller is granted is asked of no database: names are looked at, or are a condition of what is asked anyway."""

import pytest
from sqlalchemy import event

from registry import aliases, endpoints, models, pins, search, serving, versions
from registry.search import Query
from tracking.access.caller import PROGRAM, Caller, set_caller
from tracking.access.grants import EVERYTHING, Names, Scope

NOW = 1_700_000_000_000
OF_IRIS = Scope(Names(exact=frozenset({"iris"}), prefixes=("iris-",)), Names())


def work(session):
    """A little of everything."""
    models.describe_model(session, "iris", "described", now_ms=NOW)
    aliases.set_alias(session, "iris", "champion", 1, author="ann", now_ms=NOW)
    pins.pin(session, "iris", 1, author="ann", now_ms=NOW)
    pins.unpin_all(session, "iris", author="ann", now_ms=NOW)
    endpoints.change_split(session, "iris", {"champion": 10_000}, author="ann", now_ms=NOW)
    versions.set_tag(session, "iris", 1, "key", "value")
    versions.get_version(session, "iris", 1)
    aliases.get_version_by_alias(session, "iris", "champion")
    search.search_models(session, Query())
    search.search_versions(session, Query())
    endpoints.list_endpoints(session)
    endpoints.desired_routes(session, now_ms=NOW)
    serving.list_replicas(session, now_ms=NOW)


@pytest.mark.parametrize("scope", [EVERYTHING, OF_IRIS], ids=["everything", "some names"])
def test_it_takes_no_statement_more(database, iris, add_version, scope):
    add_version()
    with database.writing() as session:
        # So that both times find what they make.
        work(session)
        counts = []
        statements = []
        event.listen(session.connection(), "before_cursor_execute", lambda *args: statements.append(args[2]))
        for caller in (PROGRAM, Caller("ann", acting=scope, reading=scope)):
            session.expunge_all()
            set_caller(session, caller)
            statements.clear()
            work(session)
            counts.append(list(statements))
    as_program, as_somebody = counts
    assert len(as_somebody) == len(as_program)
    assert (as_somebody == as_program) == (scope is EVERYTHING)
