"""Our key service, asked by the real sops and by ourselves, with keys that only the service has."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("h2", reason="h2 is not installed")
from krm_sops.errors import KeyUnavailable
from krm_sops.keys.age import AgeKey
from krm_sops.keyservice import KeyService
from tests import agefile
from tests.e2e.clients import WRONG_KEY
from tests.interop.fakes.internet import closed_port
from tests.interop.programs import ROOT
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS = shutil.which("sops", path=PATH)
PLAIN = b"a: secret\n"
ME = agefile.recipient_of(made.IDENTITY)
needs_sops = pytest.mark.skipif(SOPS is None, reason="sops is not installed")


def env(folder: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    return {"PATH": PATH, "HOME": str(folder), "PYTHONPATH": path, **more}


def program(*arguments: str, folder: Path, given: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
    argv = (sys.executable, "-m", "krm_sops", *arguments)
    return subprocess.run(argv, input=given, env=env(folder, **more), cwd=folder, capture_output=True, timeout=60)


class Service:
    def __init__(self, folder: Path, network: str, *flags: str) -> None:
        self.place = f"127.0.0.1:{closed_port()}" if network == "tcp" else str(folder / "s")
        self.address = f"{network}://{self.place}"
        argv = (sys.executable, "-m", "krm_sops", "keyservice", "--network", network, "--address", self.place, *flags)
        self.process = subprocess.Popen(
            argv,
            env=env(folder, SOPS_AGE_KEY=made.IDENTITY),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        assert self.process.stderr.readline() == f"krm-sops: listening on {self.address}\n".encode()

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate()
        return self.process.returncode


@pytest.fixture(params=["tcp", "unix"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    made_ = Service(tmp_path, request.param)
    yield made_
    made_.stop()


def test_what_a_service_wraps_it_unwraps(service: Service) -> None:
    client = KeyService(service.address, by_hand=True)
    key = AgeKey(ME, client.encrypt(AgeKey(ME, ""), bytes(range(32))))
    assert client.decrypt(key) == bytes(range(32))


def test_a_key_that_it_has_not_is_refused_in_words(service: Service) -> None:
    enc = agefile.armor(agefile.make([agefile.for_recipient(agefile.recipient_of(WRONG_KEY))], bytes(32))).decode()
    with pytest.raises(KeyUnavailable, match="the only identity does not match"):
        KeyService(service.address, by_hand=True).decrypt(AgeKey("age1none", enc))


@needs_sops
def test_the_real_sops_encrypts_and_decrypts_by_it(service: Service, tmp_path: Path) -> None:
    flags = ("--enable-local-keyservice=false", "--keyservice", service.address)
    home = {"PATH": PATH, "HOME": str(tmp_path)}
    argv = (str(SOPS), "encrypt", "--age", ME, *flags, "--filename-override", "a.yaml")
    encrypted = subprocess.run(argv, input=PLAIN, env=home, capture_output=True, check=True).stdout
    (tmp_path / "a.yaml").write_bytes(encrypted)
    done = subprocess.run([str(SOPS), "decrypt", *flags, "a.yaml"], cwd=tmp_path, env=home, capture_output=True)
    assert (done.returncode, done.stdout) == (0, PLAIN), done.stderr
    assert program("decrypt", *flags, "a.yaml", folder=tmp_path).stdout == PLAIN


def test_bytes_that_are_no_request_end_their_connection_only(service: Service) -> None:
    """S33"""
    family, place = socket.AF_UNIX, service.place
    if service.address.startswith("tcp"):
        host, _, port = service.place.rpartition(":")
        family, place = socket.AF_INET, (host, int(port))  # type: ignore[assignment]
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, b"\0" * 1000):
        with socket.socket(family) as sock:
            sock.settimeout(20)
            sock.connect(place)
            try:
                sock.sendall(rubbish)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except OSError:
                pass
    test_what_a_service_wraps_it_unwraps(service)


def test_a_socket_is_its_users_alone_and_goes_with_the_service(tmp_path: Path) -> None:
    """S33"""
    service = Service(tmp_path, "unix")
    assert stat.S_IMODE(Path(service.place).stat().st_mode) == 0o600
    assert service.stop() == 0
    assert not Path(service.place).exists()


@pytest.mark.parametrize("address", ["0.0.0.0:5000", "[::]:5000", "192.0.2.1:5000", "example.com:5000", ":5000", "x"])
def test_it_listens_to_this_machine_only(address: str, tmp_path: Path) -> None:
    """S33"""
    done = program("keyservice", "--address", address, folder=tmp_path)
    assert done.returncode == 1
    assert b"is no address of this machine only" in done.stderr


def test_a_path_that_exists_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    done = program("keyservice", "--network", "unix", "--address", str(tmp_path / "s"), folder=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "s").read_text() == "mine"


@pytest.mark.parametrize(("answer", "opens"), [("y", True), ("n", False), ("what\ny", True), ("", False)])
def test_a_person_is_asked_before_every_answer(answer: str, opens: bool, tmp_path: Path) -> None:
    service = Service(tmp_path, "unix", "--prompt")
    assert service.process.stdin is not None
    service.process.stdin.write(f"{answer}\n".encode() if answer else b"")
    service.process.stdin.close()
    service.process.stdin = None
    enc = agefile.armor(agefile.make([agefile.for_recipient(ME)], bytes(32))).decode()
    client = KeyService(service.address, by_hand=True)
    if opens:
        assert client.decrypt(AgeKey(ME, enc)) == bytes(32)
    else:
        with pytest.raises(KeyUnavailable, match="denied"):
            client.decrypt(AgeKey(ME, enc))
    assert service.stop() == 0
