"""The policy's parts: which mode comes out, which service is meant, and that docs/policy.md says so."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from krm_sops.cli import HELP
from krm_sops.errors import KeyUnavailable, LimitError, PolicyError
from krm_sops.host import Host
from krm_sops.krm.config import AMBIENT, MAC_MODES
from krm_sops.limits import FUNCTION, Limits
from krm_sops.policy import PATH, Flags, Policy, in_force
from krm_sops.policyfile import FIELDS, KEY_SOURCES, Service
from krm_sops.verbs.function import FLAGS

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "policy.md").read_text()


def policy(text: str = "", flags: Flags | None = None) -> Policy:
    return in_force(Host(files={PATH: text.encode()} if text else {}), FUNCTION, flags)


@pytest.mark.parametrize(("floor", "flag", "asked"), list(product(("", *MAC_MODES), ("", *MAC_MODES), MAC_MODES)))
def test_the_mac_mode_is_never_laxer_than_the_operators(floor, flag, asked):
    """Every combination: it is what was asked for, or stricter; only a wish that is spelled out can be refused."""
    strictness = dict(zip(MAC_MODES, range(3), strict=True))
    flags = Flags()
    flags.mac = flag
    least = flag or floor or "tags"
    given = policy(f"mac: {floor}" if floor else "", flags)
    if asked == "tags" and strictness[asked] < strictness[least]:
        with pytest.raises(PolicyError, match=f"--mac {flag}" if flag else PATH):
            given.mac_mode(asked, "spec.mac")
        return
    mode = given.mac_mode(asked, "spec.mac")
    assert strictness[mode] >= strictness[least]
    assert asked == "auto" or strictness[mode] >= strictness[asked]
    if asked == "auto":
        assert mode == (flag or max(floor or "auto", "auto", key=lambda word: strictness[word]))
    else:
        assert mode == asked


@pytest.mark.parametrize(
    ("ceiling", "flag", "asked", "files"), list(product(("", *AMBIENT), ("", *AMBIENT), AMBIENT, (False, True)))
)
def test_ambient_keys_are_never_more_than_the_operators(ceiling, flag, asked, files):
    """Every combination; with key files of the operator's, ambient keys only with `--ambient always`."""
    reach = dict(zip(AMBIENT, range(3), strict=True))
    flags = Flags()
    flags.ambient = flag
    flags.key_files = ["/k"] if files else []
    most = flag or ceiling or "always"
    given = policy(f"ambient: {ceiling}" if ceiling else "", flags)
    if asked == "always" and reach[asked] > reach[most] and not files:
        with pytest.raises(PolicyError, match=f"--ambient {flag}" if flag else PATH):
            given.ambient_mode(asked, "spec.ambient")
        return
    mode = given.ambient_mode(asked, "spec.ambient")
    assert reach[mode] <= reach[most]
    if asked == "never":
        assert mode == "never"
    elif files:
        assert mode == ("always" if flag == "always" else "never")
    elif asked == "auto":
        assert mode == (flag or min(ceiling or "auto", "auto", key=lambda word: reach[word]))
    else:
        assert mode == "always"


@pytest.mark.parametrize(
    ("entry", "origin", "covered"),
    [
        ("vault.example", ("https", "vault.example", 443), True),
        ("Vault.Example", ("https", "vault.example", 443), True),
        ("https://vault.example/", ("https", "vault.example", 443), True),
        ("vault.example:8200", ("https", "vault.example", 8200), True),
        ("vault.example", ("https", "vault.example", 8200), False),
        ("vault.example", ("http", "vault.example", 443), False),
        ("vault.example", ("http", "vault.example", 80), False),
        ("http://169.254.169.254", ("http", "169.254.169.254", 80), True),
        ("vault.example", ("https", "a.vault.example", 443), False),
        ("*.vault.azure.net", ("https", "a.vault.azure.net", 443), True),
        ("*.vault.azure.net", ("https", "a.b.vault.azure.net", 443), True),
        ("*.vault.azure.net", ("https", "vault.azure.net", 443), False),
        ("*.vault.azure.net", ("https", "evilvault.azure.net", 443), False),
        ("*.vault.azure.net", ("https", "a.vault.azure.net.evil", 443), False),
        ("https://[::1]:8200", ("https", "::1", 8200), True),
        ("https://[::1]", ("https", "::1", 443), True),
    ],
)
def test_a_service_is_compared_by_scheme_host_and_port(entry, origin, covered):
    service = Service(entry)
    assert service.covers(*origin) == covered
    assert Service(str(service)).covers(*origin) == covered


@pytest.mark.parametrize(
    "entry",
    [
        *("", "*", "*.", "a..b", ".a", "a.", "a/b", "a:b", "a:", "a:99999999", "a b", "a@b", "a?b", "a#b", "ä.de"),
        *("ftp://a", "://a", "https://", "[::1", "[::g]", "[::1]8200", "[::1]:", "a:1:2", "a.*", "*a.b"),
    ],
)
def test_what_is_no_service_is_refused(entry):
    with pytest.raises(ValueError, match=r"^$"):
        Service(entry)


def test_a_service_that_is_not_listed_is_named_with_the_line():
    found = policy("# mine\nhosts: [a.example]")
    found.check_service("https", "a.example", 443)
    with pytest.raises(KeyUnavailable, match=rf"https://b\.example:443 .*hosts: {PATH} line 2"):
        found.check_service("https", "b.example", 443)


def test_limits_change_by_name():
    assert Limits().changed({}) == Limits()
    assert Limits().changed({"depth": 7}) == Limits(depth=7) != Limits()
    for changes in ({"deep": 7}, {"depth": 0}, {"depth": 301}, {"run_nodes": -1}):
        with pytest.raises(LimitError, match=next(iter(changes))):
            Limits().changed(changes)


def rows(head: str) -> list[str]:
    table = PAGE.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def test_the_page_has_every_field_and_flag():
    assert rows("field") == list(FIELDS)
    assert [flag.split()[0].removeprefix("--") for flag in rows("flag of the function")] == list(FLAGS)
    assert all(f"`{source}`" in PAGE for source in KEY_SOURCES)
    assert all(f"--{flag}" in HELP for flag in FLAGS)


def test_the_policies_of_the_page_can_be_used():
    found = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) == 2
    assert all(policy(text).mac == "strict" for text in found)
    assert set(policy(found[0]).origins) >= set(FIELDS) - {"limits"}
