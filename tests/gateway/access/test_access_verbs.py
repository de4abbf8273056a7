"""`titlebout user`, `token` and `key`, against the API in this process."""

import re

import pytest
from click.testing import CliRunner

from gateway.cli import cli


@pytest.fixture
def titlebout(api_server):
    def run(*arguments, **options):
        done = CliRunner().invoke(cli, [*arguments, "--server", api_server], catch_exceptions=False, **options)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_users_are_added_granted_and_shown(titlebout):
    assert titlebout("user", "me").strip() == "local: admin, scorer"
    assert "titlebout token create NAME --user ann" in titlebout("user", "add", "ann", "viewer")
    assert titlebout("user", "grant", "ann", "publisher", "scorer").strip() == "ann may: publisher, scorer."
    titlebout("user", "password", "ann", input="correct horse battery\ncorrect horse battery\n")
    titlebout("user", "disable", "ann")
    assert re.search(r"ann +publisher, scorer +nothing: disabled +local", titlebout("user", "list"))
    titlebout("user", "enable", "ann")
    assert re.search(r"ann .* password, token", titlebout("user", "list"))
    titlebout("user", "remove", "ann")
    assert "ann" not in titlebout("user", "list")


def test_users_are_linked_to_an_issuer_and_parted_from_it(titlebout):
    assert "titlebout token" not in titlebout("user", "add", "ann", "viewer", "--oidc")
    assert re.search(r"ann +viewer +awaits oidc, token", titlebout("user", "list"))
    titlebout("user", "oidc", "ann", "--none")
    assert re.search(r"ann +viewer +token", titlebout("user", "list"))
    assert titlebout("user", "oidc", "ann").strip() == "ann may sign in by the issuer."
    assert re.search(r"ann +viewer +awaits oidc, token", titlebout("user", "list"))


def test_grants_may_be_for_names(titlebout):
    added = titlebout("user", "add", "ann", "viewer:model:iris-*", "publisher:experiment:iris-*")
    assert added.startswith("ann is added and may: publisher:experiment:iris-*, viewer:model:iris-*.")
    assert "viewer:model:iris-*" in titlebout("user", "list")
    titlebout("token", "create", "ci", "--user", "ann", "--may", "viewer:model:iris-1")
    assert "viewer:model:iris-1" in titlebout("token", "list", "--user", "ann", env={"COLUMNS": "160"})


def test_tokens_are_shown_once_listed_by_their_beginning_and_revoked(titlebout):
    titlebout("user", "add", "ann", "publisher")
    secret = re.search(r"tbt_[\w-]+", titlebout("token", "create", "ci", "--user", "ann", "--may", "viewer"))[0]
    listed = titlebout("token", "list", "--user", "ann")
    assert secret not in listed
    long = "the laptop on which ann trains"
    titlebout("token", "create", long, "--user", "ann")
    assert re.search(
        r"^[0-9a-f]{16} ", titlebout("token", "list", "--user", "ann", env={"COLUMNS": "60"}), re.MULTILINE
    )
    token_id = re.search(rf"([0-9a-f]{{16}}) +ci +{re.escape(secret[:10])}… +viewer", listed)[1]
    titlebout("token", "revoke", token_id)
    assert token_id not in titlebout("token", "list", "--user", "ann")


def test_keys_are_shown_once_listed_and_revoked(titlebout):
    secret = re.search(r"tbk_[\w-]+", titlebout("key", "create", "shop", "iris-*", "--rate", "10", "--may-force"))[0]
    listed = titlebout("key", "list")
    assert secret not in listed
    assert re.search(r"shop +tbk_\S+… +iris-\* +arms +10 +never +never", listed)
    titlebout("key", "revoke", "shop")
    assert "shop" not in titlebout("key", "list")
