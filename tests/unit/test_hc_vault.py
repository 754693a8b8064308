"""The `hc_vault` key type: what is asked with which token, and what is refused before anything is asked (S3)."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.http import Http
from krm_sops.keys import KEY_TYPES
from krm_sops.keys.hc_vault import VaultKey, origin_of
from tests.interop.fakes.http import FakeHttp, as_http
from tests.interop.fakes.internet import Answer, Internet, Raw, Seen, closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ADDRESS = "https://vault.example.com:8200"
HOST = "vault.example.com:8200"
TOKEN = "hvs.CAESIJ-a-token-that-nobody-may-see"
DATA_KEY = bytes(range(32))
PLAIN = b64encode(DATA_KEY).decode()
ENC = "vault:v1:wrapped/by+transit=="
POD_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
LOGINS = f"instances:\n  - address: {ADDRESS}\n    loginPath: auth/kubernetes/login\n"


def transit(seen: Seen) -> Answer:
    """A fake of the transit engine's two answers."""
    if "/decrypt/" in seen.path:
        return Answer(200, {"data": {"plaintext": PLAIN}})
    return Answer(200, {"data": {"ciphertext": ENC, "key_version": 1}})


def errors(status: int, *words: str) -> Any:
    return lambda seen: Answer(status, {"errors": list(words)})


def jwt(**claims: Any) -> bytes:
    claims = {"aud": [ADDRESS], "sub": "system:serviceaccount:apps:sops", **claims}
    middle = urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return b"eyJhbGciOiJSUzI1NiJ9." + middle + b".c2lnbmF0dXJlLW9mLXRoZS1jbHVzdGVy"


def entry(content: bytes = TOKEN.encode(), origin: str = "Secret/keys") -> KeyEntry:
    return KeyEntry("hc_vault", "sops.vault-token", content, origin)


def given(
    http: FakeHttp | Http,
    *entries: KeyEntry,
    env: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    ambient: str = "auto",
    allowed: bool = True,
) -> Credentials:
    """allowed: whether the operator named `ADDRESS`."""
    env = {**({"VAULT_ADDR": ADDRESS} if allowed else {}), **(env or {})}
    host = Host(env=env, files=files or {}, http=as_http(http) if isinstance(http, FakeHttp) else http)
    return Credentials(host, entries, ambient)


def key(address: str = ADDRESS, engine: str = "transit", name: str = "sops", enc: str = ENC) -> VaultKey:
    return VaultKey(address, engine, name, enc)


def failure(credentials: Credentials, of: VaultKey | None = None) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as caught:
        (of or key()).unwrap(credentials)
    assert "\n" not in caught.value.message
    assert TOKEN not in caught.value.message + caught.value.hint
    return caught.value


@pytest.fixture
def client() -> Iterator[Callable[..., Http]]:
    made: list[Http] = []

    def make(env: dict[str, str] | None = None, **options: Any) -> Http:
        made.append(Http(env or {}, **{"pause": lambda seconds: None, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(tmp_path) as found:
        found.services["*"] = transit
        yield found


# What is asked


def test_it_is_registered_and_read_from_metadata() -> None:
    fields = {
        "vault_address": ADDRESS,
        "engine_path": "team/transit",
        "key_name": "sops",
        "enc": ENC,
        "created_at": "x",
    }
    found = KEY_TYPES["hc_vault"].from_fields(fields)
    assert isinstance(found, VaultKey)
    assert found.identity == f"{ADDRESS}/v1/team/transit/keys/sops"
    assert found.enc == ENC
    assert "sops.vault-token" in KEY_TYPES["hc_vault"].entry_names


def test_unwrap_writes_the_ciphertext_to_decrypt() -> None:
    http = FakeHttp(**{HOST: transit})
    assert key(engine="ns1/team/transit").unwrap(given(http, entry())) == DATA_KEY
    (seen,) = http.requests
    assert (seen.method, seen.path, seen.json()) == ("PUT", "/v1/ns1/team/transit/decrypt/sops", {"ciphertext": ENC})
    assert seen.headers == {"content-type": "application/json", "x-vault-request": "true", "x-vault-token": TOKEN}


def test_wrap_writes_the_plaintext_to_encrypt() -> None:
    http = FakeHttp(**{HOST: transit})
    wrapped = key(enc="").wrap(DATA_KEY, given(http, entry()))
    assert (wrapped.enc, wrapped.identity) == (ENC, key().identity)
    assert http.requests[0].path == "/v1/transit/encrypt/sops"
    assert b64decode(http.requests[0].json()["plaintext"]) == DATA_KEY


def test_a_namespace_is_the_operators() -> None:
    http = FakeHttp(**{HOST: transit})
    key().unwrap(given(http, entry(), env={"VAULT_NAMESPACE": "team/a"}))
    assert http.requests[0].headers["x-vault-namespace"] == "team/a"


# Tokens


@pytest.mark.parametrize("content", [TOKEN.encode(), b"\n " + TOKEN.encode() + b"\r\n"])
def test_a_handed_in_token_is_trimmed(content: bytes) -> None:
    http = FakeHttp(**{HOST: transit})
    assert key().unwrap(given(http, entry(content))) == DATA_KEY
    assert http.requests[0].headers["x-vault-token"] == TOKEN


@pytest.mark.parametrize(
    ("env", "files", "used"),
    [
        ({"VAULT_TOKEN": "one"}, {}, "one"),
        ({"VAULT_TOKEN": "one", "HOME": "/h"}, {"/h/.vault-token": b"two\n"}, "one"),
        ({"VAULT_TOKEN": "", "HOME": "/h"}, {"/h/.vault-token": b"two\n"}, "two"),
    ],
)
def test_ambient_tokens(env: dict[str, str], files: dict[str, bytes], used: str) -> None:
    http = FakeHttp(**{HOST: transit})
    key().unwrap(given(http, env=env, files=files))
    assert [seen.headers["x-vault-token"] for seen in http.requests] == [used]


def test_a_handed_in_token_leaves_no_room_for_ambient_ones() -> None:
    http = FakeHttp(**{HOST: errors(403, "permission denied")})
    failure(given(http, entry(), env={"VAULT_TOKEN": "ambient"}))
    assert [seen.headers["x-vault-token"] for seen in http.requests] == [TOKEN]


def test_with_ambient_always_they_come_after_it() -> None:
    http = FakeHttp(**{HOST: lambda seen: transit(seen) if seen.headers["x-vault-token"] == "b" else Answer(403)})
    assert key().unwrap(given(http, entry(), env={"VAULT_TOKEN": "b"}, ambient="always")) == DATA_KEY
    assert [seen.headers["x-vault-token"] for seen in http.requests] == [TOKEN, "b"]


def test_with_ambient_never_there_is_none() -> None:
    http = FakeHttp(**{HOST: transit})
    assert "sops.vault-token" in failure(given(http, env={"VAULT_TOKEN": "a"}, ambient="never")).hint
    assert http.requests == []


@pytest.mark.parametrize("content", [b"", b" \n", b"hvs.two words", b"hvs.\xff", b"hvs.a\r\nX-Evil: 1"])
def test_what_can_be_no_token_is_not_sent_and_not_shown(content: bytes) -> None:
    http = FakeHttp(**{HOST: transit})
    assert "hvs." not in failure(given(http, entry(content))).message
    assert http.requests == []


def test_a_token_file_that_cannot_be_read_is_named() -> None:
    class Unreadable(Host):
        def read(self, path: str, limit: int = 0) -> bytes:
            raise PermissionError(13, "Permission denied", path)

    http = FakeHttp(**{HOST: transit})
    host = Unreadable(env={"VAULT_ADDR": ADDRESS, "HOME": "/h"}, http=as_http(http))
    assert "Permission denied (with /h/.vault-token)" in failure(Credentials(host)).message


# S3: which servers get a token


@pytest.mark.parametrize(
    "env",
    [
        {"VAULT_ADDR": "https://vault.example.com:8200/"},
        {"VAULT_ADDR": "HTTPS://Vault.Example.com:8200"},
        {"SOPS_HC_VAULT_ALLOWLIST": "https://other.example, https://vault.example.com:8200"},
        {"SOPS_HC_VAULT_ALLOWLIST": "https://vault.example.com:8200/"},
        {"SOPS_HC_VAULT_ALLOWLIST": "all"},
    ],
)
def test_a_server_that_the_operator_named_is_asked(env: dict[str, str]) -> None:
    http = FakeHttp(**{HOST: transit})
    assert key().unwrap(given(http, entry(), env=env, allowed=False)) == DATA_KEY


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"VAULT_ADDR": "https://vault.example.com"},
        {"VAULT_ADDR": "http://vault.example.com:8200"},
        {"VAULT_ADDR": "https://vault.example.com:82"},
        {"VAULT_ADDR": "https://vault.example.co:8200"},
        {"VAULT_ADDR": "https://vault.example.com:8200/path"},
        {"VAULT_ADDR": "https://vault.example.com:8200@evil.example"},
        {"SOPS_HC_VAULT_ALLOWLIST": "none"},
        {"SOPS_HC_VAULT_ALLOWLIST": "none", "VAULT_ADDR": ADDRESS},
        {"SOPS_HC_VAULT_ALLOWLIST": "https://other.example", "VAULT_ADDR": ADDRESS},
        {"SOPS_HC_VAULT_ALLOWLIST": "https://"},
        {"SOPS_HC_VAULT_ALLOWLIST": "https://vault.example.com:8200/v1/transit"},
    ],
)
@pytest.mark.parametrize("ambient", [True, False])
def test_any_other_server_sees_no_connection(
    client: Callable[..., Http], internet: Internet, env: dict[str, str], ambient: bool
) -> None:
    entries = () if ambient else (entry(),)
    http = client(internet.env)
    error = failure(given(http, *entries, env={"VAULT_TOKEN": TOKEN, **env}, allowed=False))
    assert "is not allowed" in error.message
    assert "VAULT_ADDR" in error.hint or "ALLOWLIST" in error.hint
    assert internet.connections == 0


def test_an_empty_entry_of_the_list_is_an_error_as_in_sops() -> None:
    env = {"SOPS_HC_VAULT_ALLOWLIST": f"{ADDRESS}, ,https://b"}
    assert "entry 2 is empty" in failure(given(FakeHttp(), entry(), env=env)).message


@pytest.mark.parametrize(
    "address",
    [
        "https://vault.example.com:8200?x",
        "https://vault.example.com:8200#x",
        "https://vault.example.com:8200/?",
        "https://vault.example.com:8200/prefix",
        "https://vault.example.com:8200//",
        "https://vault.example.com:8200/..",
        "https://vault.example.com%2f@evil.example:8200",
        "https://user@vault.example.com:8200",
        "https://user:password@vault.example.com:8200",
        "https://vault.example.com:8200@evil.example",
        "https://vault.example.com:8200\\@evil.example",
        "https://vault.example.com:8200\n",
        "https://vault.example.com:8200 ",
        "https://vault.exämple.com",
        "https://vault.example.com:0",
        "https://vault.example.com:",
        "https://vault.example.com:99999",
        "https://[::1",
        "https://",
        "https:vault.example.com",
        "//vault.example.com",
        "vault.example.com:8200",
        "",
    ],
)
def test_an_address_that_is_more_or_less_than_a_server_is_refused(
    client: Callable[..., Http], internet: Internet, address: str
) -> None:
    env = {"VAULT_ADDR": address, "SOPS_HC_VAULT_ALLOWLIST": "all"}
    error = failure(given(client(internet.env), entry(), env=env), key(address))
    assert "no https://host[:port]" in error.message or "no URL" in error.message or "only https" in error.message
    assert internet.connections == 0


@pytest.mark.parametrize("address", ["http://vault.example.com:8200", "ftp://vault.example.com", "http://10.0.0.1"])
def test_only_https_is_spoken_even_where_the_operator_lists_something_else(
    client: Callable[..., Http], internet: Internet, address: str
) -> None:
    error = failure(given(client(internet.env), entry(), env={"VAULT_ADDR": address}), key(address))
    assert "only https is spoken" in error.message
    assert internet.connections == 0


def test_loopback_may_be_http(client: Callable[..., Http]) -> None:
    body = json.dumps({"data": {"plaintext": PLAIN}}).encode()
    with Raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as server:
        address = f"http://127.0.0.1:{server.port}"
        assert key(address).unwrap(given(client(), entry(), env={"VAULT_ADDR": address})) == DATA_KEY


@pytest.mark.parametrize(
    "bad",
    ["", ".", "..", "a b", "a?b", "a#b", "a%2fb", "a\\b", "a\nb", "a;b", "ä", "a/../b", "a//b", "./a", "a/.", "~"],
)
def test_a_path_is_made_of_plain_names(bad: str) -> None:
    http = FakeHttp(**{HOST: transit})
    credentials = given(http, entry())
    for one in (key(engine=bad), key(name=bad), key(name="a/b"), key(name="/a")):
        with pytest.raises(KeyUnavailable):
            one.unwrap(credentials)
        with pytest.raises(KeyUnavailable):
            one.wrap(DATA_KEY, credentials)
    assert http.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_target_of_a_redirect_sees_nothing(client: Callable[..., Http], internet: Internet, status: int) -> None:
    internet.services["vault.example.com"] = lambda seen: Answer(
        status, Location="https://evil.example:8200/v1/transit/decrypt/sops"
    )
    error = failure(given(client(internet.env), entry()))
    assert "redirected, which is not followed" in error.message
    assert internet.tunnels == [HOST]
    assert len(internet.requests) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a", "https://A/"),
        ("https://a:443", "https://a"),
        ("http://localhost:80", "http://localhost"),
        ("https://[::1]:8200", "https://[::1]:8200/"),
    ],
)
def test_servers_are_compared_parsed(one: str, other: str) -> None:
    assert origin_of(one) == origin_of(other) != ""


# Certificates


def test_a_certificate_is_checked(client: Callable[..., Http], internet: Internet) -> None:
    env = {"HTTPS_PROXY": internet.env["HTTPS_PROXY"]}
    assert "certificate is not trusted" in failure(given(client(env), entry(), env=env)).message
    assert internet.requests == []


@pytest.mark.parametrize(
    "more", [{"VAULT_SKIP_VERIFY": "true"}, {"VAULT_CACERT": ""}, {"VAULT_CACERT": "", "SSL_CERT_FILE": "/none"}]
)
def test_the_operator_may_name_an_authority_or_check_none(
    client: Callable[..., Http], internet: Internet, more: dict[str, str]
) -> None:
    env = {"HTTPS_PROXY": internet.env["HTTPS_PROXY"], **more}
    if "VAULT_CACERT" in env:
        env["VAULT_CACERT"] = internet.env["SSL_CERT_FILE"]
    credentials = given(client(env), entry(), env=env)
    assert key().unwrap(credentials) == DATA_KEY
    credentials.once("hc_vault http", lambda: None).close()


def test_a_switch_that_is_none_is_named(client: Callable[..., Http], internet: Internet) -> None:
    error = failure(given(client(), entry(), env={"VAULT_SKIP_VERIFY": "yes"}))
    assert "VAULT_SKIP_VERIFY is 'yes'" in error.message


# What the server answers


@pytest.mark.parametrize(
    ("status", "words", "told", "hint"),
    [
        (400, "encryption key not found", "refused (HTTP 400, encryption key not found)", "deleted"),
        (400, "invalid ciphertext: no prefix", "invalid ciphertext: no prefix", "another key"),
        (403, "permission denied", "denied (HTTP 403, permission denied)", "update"),
        (403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n", "* invalid token)", "expired"),
        (404, 'no handler for route "x"', 'not found (HTTP 404, no handler for route "x")', "mounted"),
        (429, "request path is over quota", "throttled (HTTP 429, request path is over quota)", "fewer"),
        (503, "Vault is sealed", "failed (HTTP 503, Vault is sealed)", "unseal"),
    ],
)
def test_a_refusal_comes_in_the_servers_words(status: int, words: str, told: str, hint: str) -> None:
    error = failure(given(FakeHttp(**{HOST: errors(status, words)}), entry()))
    assert told in error.message
    assert error.message.endswith("(with sops.vault-token of Secret/keys)")
    assert hint in error.hint


@pytest.mark.parametrize("name", ["hvs.short", TOKEN])
def test_a_server_that_repeats_the_token_or_plaintext_is_not_quoted(name: str) -> None:
    def repeat(seen: Seen) -> Answer:
        return Answer(403, {"errors": [seen.headers["x-vault-token"], *seen.json().values()]})

    http = FakeHttp(**{HOST: repeat})
    assert name not in failure(given(http, entry(name.encode()))).message
    with pytest.raises(KeyUnavailable) as caught:
        key().wrap(DATA_KEY, given(http, entry(name.encode())))
    assert PLAIN not in caught.value.message


def test_foreign_text_is_escaped_and_cut() -> None:
    error = failure(given(FakeHttp(**{HOST: errors(403, "\x1b[31m\u202e" + "x" * 5000)}), entry()))
    assert error.message.isprintable()
    assert len(error.message) < 400


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"no json", b"[]", b"null", b"{}", b"\xff", b'{"data":null}', b'{"data":["plaintext"]}'),
        *(b'{"data":{"plaintext":%s}}' % value for value in (b"7", b'""', b'"not base64"', b'"abc"')),
    ],
)
def test_an_answer_without_a_data_key_is_an_error(body: bytes) -> None:
    assert "Vault" in failure(given(FakeHttp(**{HOST: lambda seen: Answer(200, body)}), entry())).message


def test_a_refusal_in_html_keeps_its_status() -> None:
    http = FakeHttp(**{HOST: lambda seen: Answer(502, b"<html>Bad Gateway</html>")})
    assert "failed (HTTP 502)" in failure(given(http, entry())).message


def test_a_sealed_server_is_asked_once_in_a_scope() -> None:
    http = FakeHttp(**{HOST: errors(503, "Vault is sealed")})
    credentials = given(http, entry())
    first, second = failure(credentials), failure(credentials, key(enc="vault:v1:other"))
    assert (first.message, first.hint) == (second.message, second.hint)
    assert len(http.requests) == 1


def test_a_throttled_server_is_asked_again(client: Callable[..., Http]) -> None:
    busy = b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n"
    body = json.dumps({"data": {"plaintext": PLAIN}}).encode()
    done = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with Raw(busy, busy, done, keep=True) as server:
        address = f"http://127.0.0.1:{server.port}"
        http = client()
        assert key(address).unwrap(given(http, entry(), env={"VAULT_ADDR": address})) == DATA_KEY
    assert len(server.received) == 3


@pytest.mark.parametrize(("answer", "why"), [(b"", "timeout"), (b"\0" * 5000, "no HTTP"), (b"SSH-2.0\r\n", "no HTTP")])
def test_a_server_that_hangs_or_talks_something_else_is_left(
    client: Callable[..., Http], answer: bytes, why: str
) -> None:
    with Raw(*[answer] * 5) as server:
        address = f"http://127.0.0.1:{server.port}"
        http = client(call_seconds=0.05, total_seconds=0.1)
        assert why in failure(given(http, entry(), env={"VAULT_ADDR": address}), key(address)).message


def test_nobody_listens(client: Callable[..., Http]) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    http = client()
    error = failure(given(http, entry(), env={"VAULT_ADDR": address}), key(address))
    assert "unreachable: connection refused" in error.message
    assert "--allow-network" in error.hint


# Logging in


def vault_with_login(seen: Seen) -> Answer:
    """A fake of a Vault with an auth method that takes a role and a jwt."""
    if seen.path.endswith("/login"):
        return Answer(200, {"auth": {"client_token": f"token-of-{seen.json()['role']}"}})
    return transit(seen)


def login(
    http: FakeHttp, token: bytes | None = None, logins: str = LOGINS, *entries: KeyEntry, **env: str
) -> Credentials:
    files = {"/etc/logins.yaml": logins.encode(), POD_TOKEN: jwt() if token is None else token}
    return given(http, *entries, env={"KRM_SOPS_VAULT_LOGIN": "/etc/logins.yaml", **env}, files=files, allowed=False)


def test_row_12_a_workload_logs_in_with_its_service_account_token_as_in_flux() -> None:
    http = FakeHttp(**{HOST: vault_with_login})
    credentials = login(http, VAULT_NAMESPACE="team")
    assert key().unwrap(credentials) == key(enc="vault:v1:other").unwrap(credentials) == DATA_KEY
    first, *rest = http.requests
    assert (first.method, first.path) == ("PUT", "/v1/auth/kubernetes/login")
    assert first.json() == {"role": "apps_sops", "jwt": jwt().decode()}
    assert "x-vault-token" not in first.headers
    assert first.headers["x-vault-namespace"] == "team"
    assert [seen.headers["x-vault-token"] for seen in rest] == ["token-of-apps_sops"] * 2


def test_role_audience_and_token_file_may_be_stated() -> None:
    http = FakeHttp(**{HOST: vault_with_login})
    more = "    role: deployer\n    audience: vault\n    tokenFile: /t\n"
    credentials = login(http, b"", LOGINS.replace("auth/", "/ns1/ns2/auth/") + more)
    credentials.host._files = {**(credentials.host._files or {}), "/t": jwt(aud="vault", sub="somebody") + b"\n"}
    key().unwrap(credentials)
    assert http.requests[0].path == "/v1/ns1/ns2/auth/kubernetes/login"
    assert http.requests[0].json()["role"] == "deployer"


def test_row_12_a_handed_in_token_comes_first_and_vault_token_last() -> None:
    http = FakeHttp(**{HOST: lambda seen: vault_with_login(seen) if seen.path.endswith("login") else Answer(403)})
    credentials = login(http, None, LOGINS, entry(), VAULT_TOKEN="ambient")
    credentials.ambient = "always"
    failure(credentials)
    tokens = [seen.headers.get("x-vault-token") for seen in http.requests]
    assert tokens == [TOKEN, None, "token-of-apps_sops", "ambient"]


def test_with_a_handed_in_token_nobody_logs_in() -> None:
    http = FakeHttp(**{HOST: vault_with_login})
    key().unwrap(login(http, None, LOGINS, entry()))
    assert len(http.requests) == 1


@pytest.mark.parametrize("address", ["https://vault.example.com", "https://evil.example:8200"])
def test_row_12_a_server_that_is_not_in_the_file_gets_nothing(address: str) -> None:
    http = FakeHttp(**{HOST: vault_with_login})
    assert "is not allowed" in failure(login(http), key(address)).message
    assert http.requests == []


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["https://kubernetes.default.svc"]},
        {"aud": "https://vault.example.com"},
        {"aud": []},
        {"aud": None},
        {"aud": {ADDRESS: 1}},
    ],
)
def test_row_12_a_token_for_another_audience_is_not_sent(claims: dict[str, Any]) -> None:
    http = FakeHttp(**{HOST: vault_with_login})
    error = failure(login(http, jwt(**claims)))
    assert "is not for the audience https://vault.example.com:8200" in error.message
    assert http.requests == []


@pytest.mark.parametrize("token", [b"", b"a.b", b"a.!.c", b"a.W10.c", b"\xff.\xff.\xff", b"a." + b"W1td" * 9 + b".c"])
def test_what_is_no_service_account_token_is_not_sent(token: bytes) -> None:
    http = FakeHttp(**{HOST: vault_with_login})
    failure(login(http, token))
    assert http.requests == []


@pytest.mark.parametrize("subject", ["", "apps", "system:serviceaccount:apps", "system:node:a:b", 7])
def test_a_token_of_somebody_else_needs_a_stated_role(subject: Any) -> None:
    assert "`role` must be stated" in failure(login(FakeHttp(), jwt(sub=subject))).message


def test_a_login_that_is_refused_is_told_without_the_token() -> None:
    http = FakeHttp(**{HOST: lambda seen: Answer(403, {"errors": [f"{seen.json()['jwt']} is unknown"]})})
    error = failure(login(http))
    assert "denied (HTTP 403, *** is unknown) (with a login at auth/kubernetes/login)" in error.message
    assert jwt().decode() not in error.message


def test_a_login_without_a_token_in_the_answer() -> None:
    assert "holds no token" in failure(login(FakeHttp(**{HOST: lambda seen: Answer(200, {"auth": {}})}))).message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "KRM_SOPS_VAULT_LOGIN /etc/logins.yaml"),
        ("[", "KRM_SOPS_VAULT_LOGIN /etc/logins.yaml"),
        ("instances: {}", "a list `instances`"),
        ("instances: []\nother: 1", "and nothing else"),
        ("instances: [a]", "instances[0] is no mapping"),
        ("instances: [{address: 'http://a b'}]", "address is no https://host[:port]"),
        (LOGINS.replace("loginPath", "login_path"), "'login_path' is none of the texts address, loginPath"),
        (LOGINS.replace("auth/kubernetes/login", "auth/../login"), "is not a path in Vault"),
        (f"instances: [{{address: '{ADDRESS}'}}]", "is not a path in Vault"),
    ],
)
def test_a_file_that_is_wrong_is_told(text: str, told: str) -> None:
    http = FakeHttp(**{HOST: vault_with_login})
    assert told in failure(login(http, None, text)).message
    assert http.requests == []


def test_a_file_that_is_absent_is_told() -> None:
    credentials = given(FakeHttp(), env={"KRM_SOPS_VAULT_LOGIN": "/none"}, allowed=False)
    assert "KRM_SOPS_VAULT_LOGIN /none: No such file" in failure(credentials).message


def test_a_token_is_not_used_under_another_scope() -> None:
    """S5: what one namespace's config logged in with is not at hand for another's."""
    http = FakeHttp(**{HOST: vault_with_login})
    key().unwrap(login(http))
    key().unwrap(login(http, jwt(sub="system:serviceaccount:other:sops")))
    assert [seen.json()["role"] for seen in http.requests if seen.path.endswith("login")] == ["apps_sops", "other_sops"]
