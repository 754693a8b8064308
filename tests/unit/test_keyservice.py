"""The client of sops' key service: its bytes, its order, whom it asks (S33), and that it never waits for ever."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from krm_sops.credentials import Credentials
from krm_sops.errors import ConfigError, KeyUnavailable, WrongKey
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.keyservice import KeyService, served
from tests.interop.fakes.internet import Raw, closed_port

pytest.importorskip("h2", reason="h2 is not installed")
from tests.interop.fakes.keyservice import FakeKeyService, Reply, plaintext

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from krm_sops.keys.base import MasterKey
    from tests.interop.fakes.keyservice import Asked

DATA_KEY = bytes(range(32))
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
MESSAGES = {
    "kms": (
        {"arn": "arn", "role": "role", "context.a": "b", "aws_profile": "p"},
        b"\x0a\x16\x0a\x03arn\x12\x04role\x1a\x06\x0a\x01a\x12\x01b\x22\x01p",
    ),
    "pgp": ({"fp": "FINGER"}, b"\x12\x08\x0a\x06FINGER"),
    "gcp_kms": ({"resource_id": "projects/p"}, b"\x1a\x0c\x0a\x0aprojects/p"),
    "azure_kv": ({"vault_url": "https", "name": "n", "version": "v"}, b"\x22\x0d\x0a\x05https\x12\x01n\x1a\x01v"),
    "hc_vault": (
        {"vault_address": "http", "engine_path": "e/f", "key_name": "k"},
        b"\x2a\x0e\x0a\x04http\x12\x03e/f\x1a\x01k",
    ),
    "age": ({"recipient": "age1"}, b"\x32\x06\x0a\x04age1"),
    "hckms": ({"key_id": "region:id"}, b"\x3a\x0b\x0a\x09region:id"),
}
"""Fields in metadata -> the message Key in bytes, put together by hand from the .proto file."""


class KeyAtHand:
    """A key type whose keys say what a test wants."""

    section = "age"

    def __init__(self, outcome: bytes | Exception, enc: str = "wrapped") -> None:
        self.identity = RECIPIENT
        self.enc = enc
        self.outcome = outcome

    def unwrap(self, credentials: Credentials) -> bytes:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def key(outcome: bytes | Exception = DATA_KEY, enc: str = "wrapped") -> MasterKey:
    return KeyAtHand(outcome, enc)  # type: ignore[return-value]


def service(address: str, **options: float) -> KeyService:
    return KeyService(address, by_hand=True, **options)  # type: ignore[arg-type]


def failure(address: str, of: MasterKey | None = None, **options: float) -> str:
    with pytest.raises(KeyUnavailable) as caught:
        service(address, **options).decrypt(of or key())
    assert caught.value.message.isprintable()
    return caught.value.message


# Its bytes


def test_decrypt_is_asked_like_this() -> None:
    with FakeKeyService(lambda asked: plaintext(DATA_KEY)) as fake:
        assert service(fake.address).decrypt(key()) == DATA_KEY
    (asked,) = fake.asked
    assert (
        asked.headers.items()
        >= {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/KeyService/Decrypt",
            "te": "trailers",
            "content-type": "application/grpc",
        }.items()
    )
    name = RECIPIENT.encode()
    inner = b"\x0a" + bytes([len(name)]) + name
    outer = b"\x32" + bytes([len(inner)]) + inner
    assert asked.message == b"\x0a" + bytes([len(outer)]) + outer + b"\x12\x07wrapped"
    assert asked.frame == b"\0" + len(asked.message).to_bytes(4, "big")


def test_encrypt_is_asked_like_this() -> None:
    with FakeKeyService(lambda asked: plaintext(b"wrapped")) as fake:
        assert service(fake.address).encrypt(key(), DATA_KEY) == "wrapped"
    assert fake.asked[0].path == "/KeyService/Encrypt"
    assert fake.asked[0].message.endswith(b"\x12\x20" + DATA_KEY)


@pytest.mark.parametrize("section", list(KEY_TYPES))
def test_every_key_type_has_its_message(section: str) -> None:
    fields, message = MESSAGES[section]
    with FakeKeyService(lambda asked: plaintext(DATA_KEY)) as fake:
        service(fake.address).decrypt(KEY_TYPES[section].from_fields({**fields, "enc": "wrapped"}))
    assert fake.asked[0].message == b"\x0a" + bytes([len(message)]) + message + b"\x12\x07wrapped"


@pytest.mark.parametrize("section", [section for section in KEY_TYPES if section != "hckms"])  # it checks on load
def test_a_key_without_fields_still_says_its_type(section: str) -> None:
    with FakeKeyService(lambda asked: plaintext(DATA_KEY)) as fake:
        service(fake.address).decrypt(KEY_TYPES[section].from_fields({}))
    chosen = fake.asked[0].message
    assert chosen[:1] == b"\x0a"
    assert chosen[2] == MESSAGES[section][1][0]


def test_a_long_request_comes_in_several_frames() -> None:
    with FakeKeyService(lambda asked: plaintext(DATA_KEY)) as fake:
        assert service(fake.address).decrypt(key(enc="x" * 60_000)) == DATA_KEY
    assert fake.asked[0].message.endswith(b"x" * 60_000)


def test_a_longer_one_is_not_sent() -> None:
    with FakeKeyService(lambda asked: plaintext(DATA_KEY)) as fake:
        assert "too many to ask" in failure(fake.address, key(enc="x" * 70_000))
    assert fake.asked == []


def test_unknown_fields_of_an_answer_are_passed_over() -> None:
    message = b"\x10\x96\x01" + b"\x19" + b"8" * 8 + b"\x25" + b"4" * 4 + b"\x1a\x02ab" + b"\x0a\x20" + DATA_KEY
    with FakeKeyService(lambda asked: Reply(message)) as fake:
        assert service(fake.address).decrypt(key()) == DATA_KEY


# What goes wrong


@pytest.mark.parametrize(
    ("status", "words", "told"),
    [
        (
            "2",
            "no identity matched any of the recipients",
            "failed (gRPC 2, no identity matched any of the recipients)",
        ),
        ("5", "Must provide a key", "not found (gRPC 5, Must provide a key)"),
        ("7", "Request rejected by user", "denied (gRPC 7, Request rejected by user)"),
        ("12", "unknown service KeyService", "not a key service (gRPC 12, unknown service KeyService)"),
        ("2", "two%0Alines %E2%80%AE%1B[31m", "failed (gRPC 2, two lines \\u202e\\x1b[31m)"),
        ("2", "", "failed (gRPC 2)"),
        ("2", "x" * 5000, "x" * 200 + "…"),
        ("\u202e", "", "gRPC"),
    ],
)
@pytest.mark.parametrize("message", [b"", None])
def test_a_refusal_comes_in_the_services_words(status: str, words: str, told: str, message: bytes | None) -> None:
    trailers = {"grpc-status": status, "grpc-message": words}
    with FakeKeyService(lambda asked: Reply(message, trailers)) as fake:
        found = failure(fake.address)
    assert found.startswith(fake.address)
    assert told in found


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(b"\x0a\x20short"), "no protobuf message"),
        (Reply(b"\x0a"), "no protobuf message"),
        (Reply(b"\xff" * 20), "no protobuf message"),
        (Reply(b"\x0b\x01"), "no protobuf message"),
        (Reply(b"\x02\x00"), "no protobuf message"),
        (Reply(None), "no single uncompressed message"),
        (Reply(b"x" * 60_000), "too large"),
        (Reply(b"", {}), "no gRPC (HTTP 200)"),
        (Reply(b"", {}, **{":status": "404"}), "no gRPC (HTTP 404)"),
    ],
)
def test_an_answer_that_is_none(reply: Reply, told: str) -> None:
    with FakeKeyService(lambda asked: reply) as fake:
        assert told in failure(fake.address)


def test_an_answer_without_a_field_is_an_empty_one() -> None:
    """Proto3 leaves out what is empty; that it has the wrong length is for `recover` to say."""
    with FakeKeyService(lambda asked: Reply(b"")) as fake:
        assert service(fake.address).decrypt(key()) == b""


def test_compression_is_not_spoken() -> None:
    reply = Reply(b"")
    reply.body = b"\1\0\0\0\0"
    with FakeKeyService(lambda asked: reply) as fake:
        assert "no single uncompressed message" in failure(fake.address)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the connection was cut"),
        (b"\0" * 5000, "no gRPC"),
        (b"\xff" * 5000, "the connection was cut"),
        (b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\1\5\0\0\0\1\xff\xff\xff\xff", "no gRPC"),
        (b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\3\0\0\0\0\1\0\0\0\2", "broke the call off"),
        (b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\2", "broke the call off"),
        (b"\0\0\0\4\0\0\0\0\0", "the connection was cut"),
    ],
)
def test_a_server_that_talks_something_else(answer: bytes, told: str) -> None:
    with Raw(answer) as server:
        assert told in failure(f"tcp://127.0.0.1:{server.port}")


def test_a_server_that_hangs_is_left() -> None:
    with Raw(b"") as server:
        assert "no answer within" in failure(f"tcp://127.0.0.1:{server.port}", seconds=0.1)


def test_nobody_listens(tmp_path: Path) -> None:
    assert "unreachable: connection refused" in failure(f"tcp://127.0.0.1:{closed_port()}")
    assert "unreachable: no such file" in failure(f"unix://{tmp_path}/none.sock")


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2.connection", None)
    with pytest.raises(KeyUnavailable) as caught:
        service("tcp://127.0.0.1:1").decrypt(key())
    assert "krm-sops[keyservice]" in caught.value.hint


# Which addresses


@pytest.mark.parametrize(
    ("address", "remote"),
    [
        ("tcp://127.0.0.1:5000", False),
        ("tcp://127.1.2.3:5000", False),
        ("tcp://localhost:5000/", False),
        ("tcp://[::1]:5000", False),
        ("unix:///run/sops.sock", False),
        ("tcp://keys.example.com:5000", True),
        ("tcp://10.0.0.1:5000", True),
        ("tcp://127.0.0.1.example.com:5000", True),
        ("tcp://localhost.example.com:1", True),
        ("tcp://[2001:db8::1]:5000", True),
        ("tcp://0.0.0.0:5000", True),
    ],
)
def test_what_the_command_line_names_is_taken_wherever_it_is(address: str, remote: bool) -> None:
    assert KeyService(address, by_hand=True).remote is remote


@pytest.mark.parametrize("address", ["tcp://keys.example.com:5000", "tcp://10.0.0.1:5000", "tcp://127.0.0.1.a.b:1"])
def test_what_the_environment_names_is_on_this_machine(address: str) -> None:
    with pytest.raises(ConfigError, match="on another host") as caught:
        KeyService(address, by_hand=False)
    assert "--keyservice" in caught.value.hint


@pytest.mark.parametrize(
    "address",
    [
        "",
        "tcp://",
        "tcp://host",
        "tcp://host:",
        "tcp://host:0",
        "tcp://host:65536",
        "tcp://host:five",
        "tcp://host:５",
        "tcp://:5000",
        "tcp://user@host:5000",
        "tcp://ho st:5000",
        "tcp://host:5000/path",
        "tcp://::1:5000",
        "tcp://a\nb:5000",
        "unix://relative",
        "unix:/run/a",
        "unix:///a\0b",
        "https://host:5000",
        "host:5000",
    ],
)
@pytest.mark.parametrize("by_hand", [True, False])
def test_what_is_no_address_is_refused(address: str, by_hand: bool) -> None:
    with pytest.raises(ConfigError, match="no address of a key service") as caught:
        KeyService(address, by_hand=by_hand)
    assert caught.value.message.isprintable()


def test_a_socket_of_the_environment_must_be_ones_own_or_roots(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        KeyService(f"unix://{path}", by_hand=False)
        if os.geteuid() != 0:
            pytest.skip("only root can give a socket away")
        os.chown(path, 12345, -1)
        with pytest.raises(ConfigError, match="no socket of yours"):
            KeyService(f"unix://{path}", by_hand=False)
        KeyService(f"unix://{path}", by_hand=True)


def test_a_file_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ConfigError, match="no socket"):
        KeyService(f"unix://{tmp_path}/a", by_hand=False)


# The order


def fakes(*answers: Callable[[Asked], Reply]) -> list[FakeKeyService]:
    return [FakeKeyService(answer) for answer in answers]


def denied(asked: Asked) -> Reply:
    return Reply(None, {"grpc-status": "7", "grpc-message": "no"})


def opened(asked: Asked) -> Reply:
    return plaintext(DATA_KEY)


@pytest.mark.parametrize(
    ("at_hand", "local", "asked"),
    [
        (DATA_KEY, True, [0, 0]),
        (WrongKey("not mine"), True, [1, 1]),
        (KeyUnavailable("broken"), True, [1, 1]),
        (DATA_KEY, False, [1, 1]),
    ],
)
def test_local_keys_first_then_each_service(at_hand: bytes | Exception, local: bool, asked: list[int]) -> None:
    with FakeKeyService(denied) as one, FakeKeyService(opened) as other:
        services = [service(one.address), service(other.address)]
        assert served(key(at_hand), services, local=local).unwrap(Credentials(Host(env={}, files={}))) == DATA_KEY
    assert [len(one.asked), len(other.asked)] == asked


def test_every_failure_is_told() -> None:
    with FakeKeyService(denied) as fake:
        wrong = key(WrongKey("no identity matches", hint="set SOPS_AGE_KEY"))
        asked = served(wrong, [service(fake.address)], local=True)
        with pytest.raises(KeyUnavailable) as caught:
            asked.unwrap(Credentials(Host(env={}, files={})))
    assert caught.value.message == f"no identity matches; {fake.address}: denied (gRPC 7, no)"
    assert caught.value.hint == "set SOPS_AGE_KEY"
    assert (asked.section, asked.identity, asked.enc) == ("age", RECIPIENT, "wrapped")


def test_without_any_service_nothing_opens() -> None:
    with pytest.raises(KeyUnavailable, match="neither"):
        served(key(), [], local=False).unwrap(Credentials(Host(env={}, files={})))


@pytest.mark.parametrize("section", ["ocikms", ""])
def test_a_type_that_key_services_do_not_know(section: str) -> None:
    other = key()
    other.section = section  # type: ignore[misc]
    assert "know no" in failure("tcp://127.0.0.1:1", other)
