"""Identity files: which are read, and what is said of those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from krm_sops.age import HeaderError, IdentityError, NoMatch, bech32
from krm_sops.age.format import decrypt
from krm_sops.age.hybrid import HybridIdentity
from krm_sops.age.identities import ProtectedFile, Reader
from krm_sops.age.plugin import PluginIdentity
from krm_sops.age.scrypt import ScryptIdentity
from krm_sops.age.x25519 import X25519Identity
from tests.agefile import IDENTITY, OTHER_IDENTITY, armor, for_recipient, make, protected, recipient_of, stanza

HYBRID = "AGE-SECRET-KEY-PQ-1HZLGZUPT4ETPKDEV8HSGFDCYZ4E522W0A7PU2LHT8EH9W6YLNC3SW78XKG"
"""A throw-away key published by the C2SP test kit."""
SPEC_HYBRID = "AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR"
"""The example of the age specification."""
PLUGIN = bech32.encode("AGE-PLUGIN-FAKE-", b"data").upper()
MINE = for_recipient(recipient_of(IDENTITY))


def read(text: str, **options: Any) -> list[Any]:
    return Reader().read(text.encode(), "a place", **options)


def test_the_example_of_the_specification_has_its_recipient() -> None:
    identity = X25519Identity.parse(OTHER_IDENTITY)
    assert identity.recipient == "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
    assert identity.secret() == OTHER_IDENTITY


def test_the_post_quantum_example_of_the_specification_has_its_recipient() -> None:
    recipient = HybridIdentity.parse(SPEC_HYBRID).recipient
    assert recipient.startswith(
        "age1pq1x34nzsvr0rxjsgdn8zgyhfe8j7ceq5r9rdelkjuh3y235jzxshfg87pzf5zrqtzdxz95paef6caq5aap"
    )
    assert recipient.endswith(
        "xs25njnajyf6ssekp7gelxquusn4pt25czh3scj68kq79wdn5tgm6yvm9nzavrg043x3msnygf8dweknw5jmqd0uvny6ttsn0950"
        "8k0c55zfnegrm9efhxpfqdkmhh6gjtqmwze9pyyzk3tlhl53k2ykx3qheyty7saeq0d3fzv49zc0k"
    )


def test_a_file_may_hold_several_identities_comments_and_empty_lines() -> None:
    found = read(f"# created: now\n\n{IDENTITY}\r\n# public key: x\n{HYBRID}\n{PLUGIN}\n")
    assert [type(identity) for identity in found] == [X25519Identity, HybridIdentity, PluginIdentity]
    assert [identity.costly for identity in found] == [False, False, True]


def test_several_identities_on_a_line_are_for_the_variable_only() -> None:
    assert len(read(f"{IDENTITY} {OTHER_IDENTITY}\n", words=True)) == 2
    with pytest.raises(IdentityError, match="line 1"):
        read(f"{IDENTITY} {OTHER_IDENTITY}\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no identity"),
        ("# only a comment\n\n", "holds no identity"),
        (f"{IDENTITY}\nnonsense\n", "line 2: unknown type of identity"),
        (f" {IDENTITY}", "line 1: unknown type"),
        (f"{IDENTITY} ", "line 1: .*characters"),
        (IDENTITY.lower(), "unknown type"),
        (IDENTITY[:-1] + "Q", "checksum"),
        (IDENTITY[:-1], "checksum"),
        (recipient_of(IDENTITY), "unknown type"),
        (bech32.encode("AGE-SECRET-KEY-", bytes(31)).upper(), "not 32 bytes"),
        (bech32.encode("AGE-SECRET-KEY-PQ-", bytes(33)).upper(), "not 32 bytes"),
        (bech32.encode("AGE-SECRET-KEY-1X", bytes(32)).upper(), "not 32 bytes"),
        (bech32.encode("AGE-PLUGIN-../../X-", b"").upper(), "only have a-z, 0-9 and hyphens"),
        (bech32.encode("AGE-PLUGIN--", b"").upper(), "only have a-z, 0-9 and hyphens"),
        (bech32.encode("AGE-PLUGIN-A.B-", b"").upper(), "only have a-z, 0-9 and hyphens"),
        (bech32.encode("AGE-PLUGIN-NAME", b"").upper(), "only have a-z, 0-9 and hyphens"),
        ("AGE-PLUGIN-NAME-1QQ", "too short"),
        ("\ufffd\x00", "unknown type"),
    ],
)
def test_one_bad_line_discards_the_source_and_is_not_quoted(text: str, why: str) -> None:
    with pytest.raises(IdentityError, match=why) as caught:
        read(text)
    assert IDENTITY[20:30] not in str(caught.value)


def test_an_identity_opens_what_is_for_its_recipient_without_a_search() -> None:
    (identity,) = read(IDENTITY)
    assert identity.opener_for(recipient_of(OTHER_IDENTITY)) is None
    assert identity.opener_for("") is None
    opener = identity.opener_for(recipient_of(IDENTITY))
    assert opener([]) is None


def asking(*answers: str) -> tuple[Any, list[str]]:
    prompts: list[str] = []
    left = list(answers)

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return left.pop(0)

    return ask, prompts


@pytest.mark.parametrize("dressed", [bytes, armor], ids=["binary", "armored"])
def test_a_protected_identity_file_asks_once_and_then_opens_everything(dressed: Any) -> None:
    ask, prompts = asking("secret")
    data = dressed(protected(f"# comment\n{OTHER_IDENTITY}\n{IDENTITY}\n".encode()))
    (identity,) = Reader(ask).read(data, "keys.txt")
    assert isinstance(identity, ProtectedFile)
    assert identity.opener_for(recipient_of(IDENTITY)) is None
    assert prompts == []
    for _ in range(3):
        assert decrypt(make([MINE], b"data"), [identity], 100) == b"data"
    assert prompts == ["Enter passphrase for identity 'keys.txt': "]
    assert identity.opener_for(recipient_of(IDENTITY)) is not None


def test_a_protected_identity_file_that_is_not_the_one_says_so() -> None:
    (identity,) = Reader(lambda _: "secret").read(protected(OTHER_IDENTITY.encode()), "keys.txt")
    with pytest.raises(NoMatch):
        decrypt(make([MINE], b"data"), [identity], 100)


@pytest.mark.parametrize(
    ("data", "passphrase", "why"),
    [
        (protected(IDENTITY.encode()), "wrong", "wrong passphrase"),
        (protected(b"nonsense"), "secret", "line 1: unknown type"),
        (protected(protected(IDENTITY.encode())), "secret", "inside of another"),
        (make([MINE], IDENTITY.encode()), "secret", "not protected by one"),
        (protected(IDENTITY.encode())[:-1], "secret", "altered or cut off"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "secret", "END line"),
        (b"age-encryption\n", "secret", "age armor"),
    ],
)
def test_a_protected_file_that_cannot_be_used_fails_the_same_way_each_time(
    data: bytes, passphrase: str, why: str
) -> None:
    ask, prompts = asking(passphrase)
    (identity,) = Reader(ask).read(data, "keys.txt")
    for _ in range(2):
        with pytest.raises(IdentityError, match=why):
            identity.unwrap([])
    assert len(prompts) <= 1


def test_without_anybody_to_ask_a_protected_file_says_so() -> None:
    (identity,) = read(armor(protected(IDENTITY.encode())).decode())
    with pytest.raises(IdentityError, match="nobody to ask"):
        identity.unwrap([])


@pytest.mark.parametrize("work", ["19", "22", "30", "64", "9999", "99999999999999999999"])
def test_s21_too_much_work_is_refused_before_anybody_is_asked(work: str) -> None:
    ask, prompts = asking()
    (identity,) = Reader(ask, most_work=18).read(protected(IDENTITY.encode(), work=work), "keys.txt")
    with pytest.raises(IdentityError, match="work factor"):
        identity.unwrap([])
    assert prompts == []


@pytest.mark.parametrize("work", ["0", "01", "-1", "+2", "0x2", "2.0", "two", "2_0"])
def test_s21_a_work_factor_has_one_spelling(work: str) -> None:
    with pytest.raises(HeaderError, match="no plain number"):
        decrypt(protected(b"data", work=work), [ScryptIdentity(lambda: "secret", 18)], 100)


@pytest.mark.parametrize("start", [None, lambda *_: None], ids=["not allowed", "not installed"])
def test_a_plugin_that_cannot_run_says_why(start: Any) -> None:
    (identity,) = Reader(start=start).read(PLUGIN.encode(), "keys.txt")
    with pytest.raises(IdentityError, match=r"age-plugin-fake is not (started here|on PATH)"):
        identity.unwrap([])


@pytest.mark.parametrize("count", [0, 2])
def test_a_hybrid_stanza_has_one_argument(count: int) -> None:
    with pytest.raises(HeaderError, match="arguments instead of 1"):
        decrypt(make([stanza("mlkem768x25519", ["QQ"] * count, bytes(32))], b""), [HybridIdentity.parse(HYBRID)], 9)
