"""A database's password that was given as an option is out of `ps` before anything begins."""

import pytest

from gateway.cli.secret_options import without_secrets

URL = "postgresql://me:planted@db/t"


@pytest.mark.parametrize(
    ("arguments", "kept", "variable"),
    [
        pytest.param(["serve", "--database-url", URL, "--port", "1"], ["serve", "--port", "1"], URL, id="two words"),
        pytest.param(["serve", f"--backend-store-uri={URL}"], ["serve"], URL, id="one word"),
        pytest.param(
            ["--database-url", "postgresql://db/t?sslpassword=x"], [], "postgresql://db/t?sslpassword=x", id="query"
        ),
        pytest.param(["--database-url", "sqlite:///a=b"], ["--database-url", "sqlite:///a=b"], None, id="no password"),
        pytest.param(["--database-url"], ["--database-url", ""], None, id="nothing given"),
        pytest.param(["promote", "m", "a", "1"], ["promote", "m", "a", "1"], None, id="another verb"),
    ],
)
def test_a_url_with_a_password_leaves_the_arguments_for_a_variable(arguments, kept, variable):
    variables = {} if variable is None else {"TITLEBOUT_DATABASE_URL": variable}
    assert without_secrets(arguments) == (kept, variables)
