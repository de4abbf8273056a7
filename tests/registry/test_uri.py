import pytest

from registry import aliases, models, versions
from registry.errors import AliasNotFound, ModelVersionNotFound, RegisteredModelNotFound, UnreadableModelUri
from registry.uri import ModelReference, parse_model_uri, resolve
from tracking.errors import InvalidParameter

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        pytest.param("models:/iris@champion", ModelReference("iris", alias="champion"), id="alias"),
        pytest.param("iris@champion", ModelReference("iris", alias="champion"), id="no scheme"),
        pytest.param("models:/iris/3", ModelReference("iris", version=3), id="version"),
        pytest.param("models:/iris/Production", ModelReference("iris", stage="Production"), id="stage"),
        pytest.param("models:/iris/latest", ModelReference("iris", alias="latest"), id="latest"),
        pytest.param("iris", ModelReference("iris"), id="name alone"),
        pytest.param("iris%40champion", ModelReference("iris", alias="champion"), id="quoted at"),
        pytest.param("models:/caf%C3%A9@champion", ModelReference("café", alias="champion"), id="quoted name"),
        pytest.param("iris%2F3", ModelReference("iris", version=3), id="quoted slash"),
        pytest.param("a@b@champion", ModelReference("a@b", alias="champion"), id="the last at splits"),
        pytest.param("100% sure", ModelReference("100% sure"), id="percent that quotes nothing"),
    ],
)
def test_a_uri_says_model_and_version(text, reference):
    assert parse_model_uri(text) == reference


@pytest.mark.parametrize(
    "text", ["", "models:/", "models:/iris/", "models:/iris/1/2", "@champion", "iris@", "models://iris/1"]
)
def test_what_is_no_models_uri_is_refused(text):
    with pytest.raises(UnreadableModelUri):
        parse_model_uri(text)


@pytest.mark.parametrize("text", ["iris\0", "iris%00", "iris/" + "9" * 5000, "iris/99999999999"])
def test_what_no_version_could_be_is_refused(text):
    with pytest.raises(InvalidParameter):
        parse_model_uri(text)


def test_a_whole_name_is_asked_for_before_it_is_split():
    assert parse_model_uri("a@b", {"a@b"}.__contains__) == ModelReference("a@b")
    assert parse_model_uri("a%40b", {"a@b"}.__contains__) == ModelReference("a@b")
    assert parse_model_uri("a%41", {"a%41"}.__contains__) == ModelReference("a%41")


def test_every_way_to_name_a_version_finds_it(database, iris, add_version):
    for _ in range(3):
        add_version()
    with database.writing() as session:
        aliases.set_alias(session, iris, "champion", 1, author="me", now_ms=NOW_MS)
        versions.transition_stage(session, iris, 2, "Staging", archive_existing=False, now_ms=NOW_MS)
    with database.reading() as session:
        found = {
            text: resolve(session, text).version
            for text in ("models:/iris@champion", "models:/iris/3", "models:/iris/staging", "iris/latest", "iris")
        }
    assert found == {
        "models:/iris@champion": 1,
        "models:/iris/3": 3,
        "models:/iris/staging": 2,
        "iris/latest": 3,
        "iris": 1,
    }


def test_a_model_with_an_at_in_its_name_is_found_by_its_whole_name(database, iris, add_version):
    with database.writing() as session:
        models.create_model(session, "iris@champion", now_ms=NOW_MS)
    add_version("iris@champion")
    add_version(iris)
    add_version(iris)
    with database.writing() as session:
        aliases.set_alias(session, "iris@champion", "champion", 1, author="me", now_ms=NOW_MS)
        aliases.set_alias(session, iris, "champion", 2, author="me", now_ms=NOW_MS)
    with database.reading() as session:
        assert resolve(session, "iris@champion").name == "iris@champion"
        assert resolve(session, "iris%40champion@champion").name == "iris@champion"


def test_what_isnt_there_is_named(database, iris):
    for text, error in {
        "models:/nobody@champion": RegisteredModelNotFound,
        "models:/iris@nobody": AliasNotFound,
        "models:/iris/7": ModelVersionNotFound,
        "models:/iris/Production": ModelVersionNotFound,
        "iris": AliasNotFound,
    }.items():
        with database.reading() as session, pytest.raises(error):
            resolve(session, text)
