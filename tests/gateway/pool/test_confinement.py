"""A confined process keeps its own files and pipes, and has lost everything else; so has whatever it starts."""

import asyncio
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from gateway.pool.confinement import capabilities, landlock
from gateway.pool.confinement.confine import Confined, ConfinementIncomplete, around, code_folders, confine
from gateway.settings import Confinement
from tests.gateway.pool.children import in_child

ABI = landlock.find_abi()

pytestmark = pytest.mark.skipif(ABI == 0, reason="this kernel has no Landlock")


@pytest.fixture
def machine(tmp_path):
    """A small machine: a data folder with the model's files and other people's in it, a scratch folder, the rest."""
    for folder in ("data/cache/model", "data/cache/other", "data/state", "run/host-1", "run/host-2", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_text("kept")
        (tmp_path / folder / "empty").mkdir()
    (tmp_path / "data/titlebout.db").write_text("secret")
    return tmp_path


def confined(machine, work, mode=Confinement.REQUIRED):
    """The same, confined as a model's host is."""

    def confine_first():
        confine(
            mode,
            own=[machine / "run/host-1"],
            readable=[machine / "data/cache/model"],
            hidden=[str(machine / "data"), str(machine / "run"), "/dev"],
        )
        return work()

    return in_child(confine_first)


def attempts(*tries):
    """The name of the error of each, or what it gave."""

    def attempt(one):
        try:
            return one()
        except OSError as error:
            return type(error).__name__

    return lambda: [attempt(one) for one in tries]


def test_it_writes_in_its_own_folder_and_nowhere_else(machine):
    own, other = machine / "run/host-1", machine / "elsewhere"

    def every_kind_of_writing(folder):
        return attempts(
            lambda: (folder / "new").write_text("x"),
            lambda: (folder / "file").write_text("x"),
            lambda: os.truncate(folder / "file", 0),
            (folder / "folder").mkdir,
            (folder / "empty").rmdir,
            lambda: (folder / "link").symlink_to("/etc/passwd"),
            lambda: os.mkfifo(folder / "pipe"),
            lambda: (folder / "file").rename(folder / "renamed") and None,
            (folder / "renamed").unlink,
        )

    assert confined(machine, every_kind_of_writing(own)) == [1, 1, *[None] * 7]
    assert set(confined(machine, every_kind_of_writing(other))[:-1]) == {"PermissionError"}
    assert (other / "file").read_text() == "kept"
    assert sorted(path.name for path in other.iterdir()) == ["empty", "file"]


def test_it_reads_code_and_libraries_but_of_hidden_folders_only_its_own(machine):
    read = attempts(
        (machine / "data/cache/model/file").read_text,
        (machine / "run/host-1/file").read_text,
        (machine / "elsewhere/file").read_text,
        lambda: len(Path(os.__file__).read_bytes()) > 0,
        lambda: len(Path("/proc/self/status").read_text()) > 0,
        lambda: len(os.read(os.open("/dev/urandom", os.O_RDONLY), 8)),
    )
    assert confined(machine, read) == ["kept", "kept", "kept", True, True, 8]
    refused = attempts(
        (machine / "data/titlebout.db").read_text,
        (machine / "data/cache/other/file").read_text,
        (machine / "run/host-2/file").read_text,
        lambda: os.open("/dev/tty", os.O_RDONLY),
    )
    assert confined(machine, refused) == ["PermissionError"] * 4


def test_hidden_folders_are_left_out_of_what_may_be_read_and_nothing_else_is(machine):
    left = list(around([machine / "data", machine / "run/host-1"]))
    assert [path for path in left if path.startswith(str(machine))] == [
        path for path in left if Path(path) in {machine / "run/host-2", machine / "elsewhere"}
    ]
    assert {str(machine / "run/host-2"), str(machine / "elsewhere"), "/usr", "/proc"} <= set(left)


def test_code_that_lies_in_a_hidden_folder_can_be_read_still(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "data/venv/lib"), str(tmp_path)])
    folders = code_folders([tmp_path / "data"])
    assert tmp_path / "data/venv/lib" in folders
    assert tmp_path not in folders


def test_it_has_no_way_to_a_socket_but_to_a_pair_of_its_own(machine):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(machine / "elsewhere/socket"))
    listener.listen()
    tcp = socket.create_server(("127.0.0.1", 0))

    def pair():
        ours, theirs = socket.socketpair()
        ours.sendall(b"hello")
        return theirs.recv(5).decode()

    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.bind(str(machine / "elsewhere/box"))

    def to_a_box(kind):
        ours, _ = socket.socketpair(socket.AF_UNIX, kind)
        ours.sendto(b"hello", str(machine / "elsewhere/box"))

    with listener, tcp, box:
        assert confined(
            machine,
            attempts(
                lambda: socket.create_connection(tcp.getsockname()),
                lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
                lambda: socket.socket(socket.AF_INET6),
                lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
                lambda: socket.socket(socket.AF_UNIX).connect(str(machine / "elsewhere/socket")),
                lambda: to_a_box(socket.SOCK_DGRAM),
                lambda: to_a_box(socket.SOCK_RAW),
                pair,
                lambda: asyncio.run(asyncio.sleep(0, "fine")),
            ),
        ) == [*["PermissionError"] * 7, "hello", "fine"]
        assert confined(machine, attempts(lambda: socket.getaddrinfo("example.com", 80))) == ["gaierror"]


def test_it_reads_no_other_processs_environment_and_ends_none(machine):
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], "SECRET": "planted"}) as other:
        refused = attempts(
            Path(f"/proc/{other.pid}/environ").read_text,
            Path(f"/proc/{other.pid}/maps").read_text,
            lambda: str(Path(f"/proc/{other.pid}/fd/0").readlink()),
            *([lambda: os.kill(other.pid, 9)] if ABI >= 6 else []),
            lambda: resource.prlimit(other.pid, resource.RLIMIT_CPU, (0, 0)),
        )
        try:
            assert set(confined(machine, refused)) == {"PermissionError"}
            assert other.poll() is None
        finally:
            other.kill()
    own = attempts(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    assert confined(machine, own) == [None]


def test_threads_and_programs_that_it_starts_are_as_confined(machine):
    target = machine / "elsewhere/by-a-program"
    program = f"import socket; open({str(target)!r}, 'w')"

    def in_a_thread():
        said = []
        work = attempts(lambda: target.write_text("x"), socket.socket)
        thread = threading.Thread(target=lambda: said.extend(work()))
        thread.start()
        thread.join()
        return said

    assert confined(machine, in_a_thread) == ["PermissionError", "PermissionError"]
    run = confined(machine, lambda: subprocess.run([sys.executable, "-SE", "-c", program], check=False).returncode)
    assert run == 1
    assert not target.exists()


def test_what_libraries_usually_do_works(machine):
    def as_usual():
        tempfile.tempdir = str(machine / "run/host-1")
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x")
        with multiprocessing.Lock():
            pass
        Path(os.devnull).write_text("x")
        return subprocess.run(["true"], check=True).returncode

    assert confined(machine, as_usual) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to lose")
def test_root_keeps_no_privilege_but_to_read(machine):
    def privileges():
        lines = Path("/proc/self/status").read_text().splitlines()
        return [int(line.split()[1], 16) for line in lines if line.startswith(("CapEff", "CapPrm", "CapInh"))]

    assert set(confined(machine, privileges)) <= {0, 4}
    grep = ["grep", "CapEff", "/proc/self/status"]
    by_a_program = confined(machine, lambda: subprocess.check_output(grep, text=True))
    assert int(by_a_program.split()[1], 16) in {0, 4}


def test_it_says_what_is_in_force(machine):
    def say(mode):
        confined = confine(mode, own=[], readable=[], hidden=[])
        return [confined.files, confined.network]

    assert in_child(lambda: say(Confinement.AUTO)) == [f"landlock ABI {ABI}", "seccomp"]
    assert in_child(lambda: say(Confinement.OFF)) == ["open", "open"]
    assert Confined() == Confined(files="open", network="open")


def test_a_kernel_that_refuses_is_told_of_and_where_confinement_is_required_nothing_loads(machine):
    def exhausted(mode):
        capabilities.want_no_more()
        # A process can be put into sixteen of these, one within the other.
        for _ in range(16):
            landlock.enforce(ABI, landlock.Access.MAKE_CHAR, {})
        confined = confine(mode, own=[], readable=[], hidden=[])
        return [confined.files, confined.network]

    assert in_child(lambda: exhausted(Confinement.AUTO)) == ["open", "seccomp"]
    assert in_child(lambda: exhausted(Confinement.REQUIRED)) == "ConfinementIncomplete"
    said = str(ConfinementIncomplete(["other files", "the network"]))
    assert "from other files or the network" in said
