import pytest

from loaders.errors import InvalidArtifact
from loaders.mlmodel import MLMODEL_BYTES_MAX, path_inside, read_mlmodel


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[1, 2]", b"flavors: {}", b"flavors: 5", b"flavors: {sklearn: 5}", b"\xff\xfe\x00", b"a: [",
        b"[" * 100_000, b"- " * 100_000, b"? " * 100_000,
        b"flavors: !!python/object/apply:os.system ['touch ran']", b"no_flavors: {a: {}}",
    ],
)  # fmt: skip
def test_a_broken_mlmodel_is_refused_by_name(tmp_path, content):
    (tmp_path / "MLmodel").write_bytes(content)
    with pytest.raises(InvalidArtifact, match="'MLmodel'"):
        read_mlmodel(tmp_path)


def test_a_missing_or_huge_mlmodel_is_refused(tmp_path):
    with pytest.raises(InvalidArtifact, match="found none"):
        read_mlmodel(tmp_path)
    (tmp_path / "MLmodel").write_bytes(b"#" * (MLMODEL_BYTES_MAX + 1))
    with pytest.raises(InvalidArtifact, match="at most"):
        read_mlmodel(tmp_path)


def test_references_that_unfold_without_end_cost_nothing(tmp_path):
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    (tmp_path / "MLmodel").write_text(f"l0: &l0 [x]\n{levels}flavors: {{sklearn: {{}}}}\n")
    assert read_mlmodel(tmp_path).flavors == {"sklearn": {}}


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../b", "a//b", "", ".", "a\\b", "a\0b", None, 5, ["a"]])
def test_only_paths_within_the_model_are_taken(tmp_path, path):
    with pytest.raises(InvalidArtifact, match="within the model"):
        path_inside(tmp_path, path, "model_path")
