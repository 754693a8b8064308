"""The thin HTTPS client: what it says on the wire, whom it trusts, and that nothing makes it wait for ever."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from krm_sops.errors import KeyUnavailable
from krm_sops.http import ATTEMPTS, LARGEST_BODY, Http, Unreachable
from tests.interop.fakes.internet import Answer, Authority, Internet, Raw, closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KEPT = OK
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def client() -> Iterator[Callable[..., Http]]:
    made: list[Http] = []

    def make(env: dict[str, str] | None = None, **options: Any) -> Http:
        options.setdefault("pause", lambda seconds: None)
        made.append(Http(env or {}, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(tmp_path) as found:
        found.services["*"] = lambda seen: Answer(200, {"host": seen.host})
        yield found


def test_a_request_has_these_bytes(client: Callable[..., Http]) -> None:
    with Raw(OK) as server:
        answer = client().request("POST", f"{server.url}a/b?c=d", {"X-Test": "1"}, b"{}")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"ok", "2")
    assert server.received == [
        b"POST /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: krm-sops\r\nX-Test: 1\r\nContent-Length: 2\r\n"
        b"\r\n{}" % server.port
    ]


def test_https_goes_through_the_proxy_and_is_checked_against_the_named_authority(
    client: Callable[..., Http], internet: Internet
) -> None:
    http = client(internet.env)
    assert http.request("GET", "https://example.com/x").json() == {"host": "example.com"}
    assert internet.tunnels == ["example.com:443"]
    assert internet.requests[0].headers["host"] == "example.com"


def test_a_connection_serves_several_calls(client: Callable[..., Http], internet: Internet) -> None:
    http = client(internet.env)
    for _ in range(5):
        http.request("GET", "https://example.com/x")
    http.request("GET", "https://example.org/x")
    assert internet.tunnels == ["example.com:443", "example.org:443"]


def test_threads_do_not_mix_up_their_answers(client: Callable[..., Http], internet: Internet) -> None:
    internet.services["*"] = lambda seen: Answer(200, {"path": seen.path})
    http = client(internet.env)
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(5):
            path = f"/{number}/{turn}"
            found = http.request("GET", f"https://example.com{path}").json()
            if found != {"path": path}:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(internet.requests) == 100
    assert len(internet.tunnels) <= 20


def test_a_connection_given_up_by_the_server_is_opened_again(client: Callable[..., Http]) -> None:
    with Raw(OK, OK) as server:  # hangs up after each answer, without saying so before
        http = client()
        assert [http.request("GET", server.url).body for _ in range(2)] == [b"ok", b"ok"]
        assert server.connections == 2


def test_an_untrusted_certificate_is_refused_at_once(
    client: Callable[..., Http], internet: Internet, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = str(Authority(tmp_path / "other").file)
    with pytest.raises(Unreachable, match="certificate is not trusted") as caught:
        client({**internet.env, "SSL_CERT_FILE": other}).request("GET", "https://example.com/")
    assert "SSL_CERT_FILE" in caught.value.hint
    assert internet.requests == []
    assert len(internet.tunnels) == 1


def test_a_certificate_of_another_host_is_refused(client: Callable[..., Http], internet: Internet) -> None:
    internet.tls_for = lambda host, real=internet.tls_for: real("other.example")  # type: ignore[method-assign, misc]
    with pytest.raises(Unreachable, match="certificate is not trusted"):
        client(internet.env).request("GET", "https://example.com/")


def test_certificates_that_cannot_be_read_are_named(client: Callable[..., Http], internet: Internet) -> None:
    with pytest.raises(KeyUnavailable, match="SSL_CERT_FILE /none holds no certificates"):
        client({**internet.env, "SSL_CERT_FILE": "/none"}).request("GET", "https://example.com/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_never_followed(
    client: Callable[..., Http], internet: Internet, status: int
) -> None:
    internet.services["a.example"] = lambda seen: Answer(status, Location="https://evil.example/")
    answer = client(internet.env).request("GET", "https://a.example/", {"Authorization": "Bearer t"})
    assert answer.status == status
    assert internet.tunnels == ["a.example:443"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://169.254.169.254/",
        "http://localhost.evil.example/",
        "http://127.0.0.1.evil.example/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https:///path",
        "https://example.com:port/",
        "https://example.com/\r\nX: y",
        "https://example.com/a b",
        "https://exämple.com/",
        "https://example.com\\@evil.example/",
        "https://[::1/",
        "https://a..b/",
        f"https://{'a' * 64}.example/",
        "",
    ],
)
def test_an_address_that_is_not_plainly_https_is_refused_before_anything_is_opened(
    client: Callable[..., Http], internet: Internet, url: str
) -> None:
    with pytest.raises(KeyUnavailable) as caught:
        client(internet.env).request("GET", url)
    assert "\n" not in str(caught.value)
    assert internet.connections == 0


def test_a_header_never_breaks_out_of_its_line_and_is_not_shown(client: Callable[..., Http]) -> None:
    with Raw(OK) as server:
        with pytest.raises(KeyUnavailable, match="Authorization") as caught:
            client().request("GET", server.url, {"Authorization": "Bearer SECRET\r\nX: y"})
        assert server.connections == 0
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_throttling_and_server_faults_are_tried_again(client: Callable[..., Http], status: int) -> None:
    busy = BUSY.replace(b"503", str(status).encode())
    pauses: list[float] = []
    with Raw(busy, busy, OK, keep=True) as server:
        assert client(pause=pauses.append).request("GET", server.url).status == 200
        assert server.connections == 1
    assert len(pauses) == 2
    assert 0 < pauses[0] < pauses[1] * 2 < 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 501])
def test_what_is_denied_is_asked_once(client: Callable[..., Http], status: int) -> None:
    with Raw(BUSY.replace(b"503", str(status).encode()), OK, keep=True) as server:
        assert client().request("GET", server.url).status == status
        assert len(server.received) == 1


def test_tries_are_counted_and_the_last_answer_is_given(client: Callable[..., Http]) -> None:
    with Raw(*[BUSY] * 20, keep=True) as server:
        assert client().request("GET", server.url).status == 503
        assert len(server.received) == ATTEMPTS


def test_the_service_may_ask_for_a_longer_pause_but_not_for_an_endless_one(client: Callable[..., Http]) -> None:
    pauses: list[float] = []
    later = BUSY.replace(b"\r\n\r\n", b"\r\nRetry-After: 7\r\n\r\n")
    never = BUSY.replace(b"\r\n\r\n", b"\r\nRetry-After: 900\r\n\r\n")
    with Raw(later, never, OK, keep=True) as server:
        assert client(pause=pauses.append).request("GET", server.url).status == 503
    assert pauses == [7.0]


def test_nobody_listens(client: Callable[..., Http]) -> None:
    pauses: list[float] = []
    http = client(pause=pauses.append)
    url = f"http://127.0.0.1:{closed_port()}/"
    with pytest.raises(Unreachable, match="unreachable: connection refused") as caught:
        http.request("GET", url)
    assert "--allow-network" in caught.value.hint
    assert len(pauses) == ATTEMPTS - 1
    with pytest.raises(Unreachable, match="connection refused"):
        http.request("GET", url)
    assert len(pauses) == ATTEMPTS - 1, "what was just found dead is not tried again"


def test_a_name_that_does_not_exist(client: Callable[..., Http]) -> None:
    with pytest.raises(Unreachable, match="DNS") as caught:
        client().request("GET", "https://no-such-host.invalid/")
    assert "network: true" in caught.value.hint


def test_a_server_that_says_nothing_is_left(client: Callable[..., Http]) -> None:
    with Raw(b"", b"", b"") as server, pytest.raises(Unreachable, match="no answer within"):
        client(call_seconds=0.05, total_seconds=0.12).request("GET", server.url)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_server_that_drips_is_left_too(client: Callable[..., Http], start: bytes) -> None:
    """Every byte comes in time; it is their sum that does not end."""
    stop = threading.Event()

    class Dripping(Raw):
        def serve(self, sock: Any) -> None:
            sock.recv(65536)
            sock.sendall(start)
            while not stop.wait(0.01):
                try:
                    sock.sendall(b"x")
                except OSError:
                    return

    with Dripping() as server, pytest.raises(Unreachable, match="timeout"):
        client(call_seconds=0.1, total_seconds=0.1).request("GET", server.url)
    stop.set()


def test_a_handshake_that_hangs_is_left(client: Callable[..., Http]) -> None:
    with Raw(b"") as server, pytest.raises(Unreachable, match="timeout"):
        client(call_seconds=0.1, total_seconds=0.1).request("GET", f"https://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"\x00" * 100_000, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", "more than 1 MiB"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LARGEST_BODY + 1), "more than 1 MiB"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % (2 << 20) + b"x" * (2 << 20),
            "more than 1 MiB",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "cut"),
    ],
)
def test_an_answer_that_is_none(client: Callable[..., Http], answer: bytes, why: str) -> None:
    with Raw(*[answer] * ATTEMPTS) as server, pytest.raises(Unreachable, match=why):
        client().request("GET", server.url)


def test_a_body_in_chunks(client: Callable[..., Http]) -> None:
    with Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n") as server:
        assert client().request("GET", server.url).body == b"ok"


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_object_counts_as_an_empty_one(client: Callable[..., Http], body: bytes) -> None:
    with Raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as server:
        assert client().request("GET", server.url).json() == {}


def test_a_metadata_service_is_spoken_to_directly_over_http(client: Callable[..., Http]) -> None:
    env = {"HTTPS_PROXY": f"http://127.0.0.1:{closed_port()}"}
    with Raw(OK) as server:
        assert client(env).request("GET", server.url, local=True).body == b"ok"


def test_a_metadata_service_that_is_absent_costs_one_try(client: Callable[..., Http]) -> None:
    pauses: list[float] = []
    with pytest.raises(Unreachable):
        client(pause=pauses.append).request("GET", f"http://127.0.0.1:{closed_port()}/", local=True)
    assert pauses == []


@pytest.mark.parametrize(
    ("exceptions", "direct"),
    [
        ("*", True),
        ("host.invalid", True),
        (".invalid", True),
        ("*.invalid", True),
        ("other, invalid ", True),
        ("HOST.INVALID", True),
        ("host.invalid:443", True),
        ("host.invalid:8443", False),
        ("st.invalid", False),
        ("host", False),
        ("", False),
        (",", False),
        ("10.0.0.0/8", False),
    ],
)
def test_no_proxy_names_what_is_reached_directly(
    client: Callable[..., Http], internet: Internet, exceptions: str, direct: bool
) -> None:
    http = client({**internet.env, "NO_PROXY": exceptions})
    if direct:
        with pytest.raises(Unreachable, match="DNS"):
            http.request("GET", "https://host.invalid/")
    else:
        http.request("GET", "https://host.invalid/")
    assert bool(internet.tunnels) is not direct


def test_no_proxy_takes_networks(client: Callable[..., Http], internet: Internet) -> None:
    with pytest.raises(Unreachable):
        client({**internet.env, "NO_PROXY": "192.0.2.0/24"}, call_seconds=0.05, total_seconds=0.05).request(
            "GET", "https://192.0.2.7/"
        )
    assert internet.tunnels == []


def test_loopback_never_goes_through_the_proxy(client: Callable[..., Http], internet: Internet) -> None:
    with Raw(OK) as server:
        assert client(internet.env).request("GET", server.url).body == b"ok"
    assert internet.connections == 0


def test_name_and_password_of_the_proxy_are_used_and_not_shown(client: Callable[..., Http]) -> None:
    denied = b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"
    with Raw(denied) as server:
        env = {"https_proxy": f"http://us%40er:pa%3Ass@127.0.0.1:{server.port}"}
        with pytest.raises(Unreachable, match=r"through the proxy 127\.0\.0\.1: it answered 407") as caught:
            client(env).request("GET", "https://kms.test/", {"Authorization": "Bearer t"})
    assert server.received == [
        b"CONNECT kms.test:443 HTTP/1.1\r\nHost: kms.test:443\r\nProxy-Authorization: Basic dXNAZXI6cGE6c3M=\r\n\r\n"
    ]
    assert "pa" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://", "http://[::1", "http://a:b"]
)
def test_a_proxy_that_cannot_be_used_is_an_error_not_a_detour(client: Callable[..., Http], proxy: str) -> None:
    with pytest.raises(KeyUnavailable, match="HTTPS_PROXY"):
        client({"HTTPS_PROXY": proxy}).request("GET", "https://example.com/")
