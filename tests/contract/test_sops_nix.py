"""What sops-nix' own tests assert of its assets holds for `materialize` and `template`.

Source: Mic92/sops-nix, pkgs/sops-install-secrets/main_test.go and checks/nixos-test.nix.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from krm_sops.verbs import materialize, template
from tests import corpus
from tests.corpus import needs_corpus

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_corpus
ASSETS = corpus.path("sops-nix/files/pkgs/sops-install-secrets/test-assets")
KEYS = corpus.path("sops-nix/keys")


def placeholder(name: str) -> str:
    return f"<SOPS:{hashlib.sha256(name.encode()).hexdigest()}:PLACEHOLDER>"


def install(folder: Path, *arguments: str | Path, key: str = "age-keys.txt") -> Path:
    """The folder of secrets, as sops-install-secrets makes /run/secrets."""
    words = [*arguments, "--dir", folder / "secrets", "--key-file", KEYS / key]
    assert materialize.main([str(word) for word in words]) == 0
    return folder / "secrets"


def shown(folder: Path) -> object:
    if folder.is_dir():
        return {path.name: shown(path) for path in sorted(folder.iterdir())}
    return folder.read_text()


@pytest.mark.parametrize("key", ["age-keys.txt", "ssh-ed25519-key", "key.asc", "ssh-key.asc"])
def test_a_file_opens_with_each_of_its_keys_an_ssh_key_among_them(key, tmp_path):
    found = install(tmp_path, ASSETS / "secrets.yaml", key=key)
    assert shown(found) == {
        "test_key": "test_value",
        "a_list": {"0": "e1", "1": "e3"},
        "nested": {"test": {"file": "another value"}},
    }


def test_an_ssh_key_counts_where_the_environment_names_it(tmp_path, monkeypatch):
    for name in [name for name in os.environ if "SOPS" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SOPS_AGE_SSH_PRIVATE_KEY_FILE", str(KEYS / "ssh-ed25519-key"))
    monkeypatch.setenv("HOME", str(tmp_path))
    words = [str(ASSETS / "secrets.yaml"), "--dir", str(tmp_path / "secrets"), "--ambient", "always"]
    assert materialize.main(words) == 0
    assert (tmp_path / "secrets" / "test_key").read_text() == "test_value"


def test_mode_links_and_generations(tmp_path):
    link = install(tmp_path, ASSETS / "secrets.yaml")
    assert link.is_symlink()
    found = (link / "test_key").stat()
    assert stat.S_ISREG(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o400
    install(tmp_path, ASSETS / "secrets.json", "--mode", "0700", key="key.asc")
    assert (tmp_path / os.readlink(link)).resolve() == tmp_path / "secrets.d" / "2"
    assert stat.S_IMODE((link / "test_key").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group(tmp_path):
    found = (install(tmp_path, ASSETS / "secrets.yaml", "--owner", "nobody", "--group", "nogroup") / "test_key").stat()
    import grp
    import pwd

    assert (pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name) == ("nobody", "nogroup")


def test_a_binary_file_is_one_secret(tmp_path):
    link = install(tmp_path, f"test3={ASSETS / 'secrets.bin'}", key="key.asc")
    assert len((link / "test3").read_bytes()) == 13


@pytest.mark.parametrize("name", ["secrets.env", "secrets.yaml", "secrets.json", "secrets.bin"])
def test_whole_files(name, tmp_path):
    link = install(tmp_path, "--whole", f"a/b={ASSETS / name}", key="key.asc")
    text = (link / "a" / "b").read_text()
    (wanted,) = (
        json.loads(corpus.path(f"sops-nix/derived/{name}-pgp.json").read_text()) if name == "secrets.yaml" else [None]
    )
    if wanted is None and name != "secrets.bin":
        (wanted,) = json.loads(corpus.path(f"sops-nix/derived/{name}.json").read_text())
    for value in (wanted or {}).values():
        if isinstance(value, str):
            assert value.replace("\n", "\\n") in text
    assert name != "secrets.bin" or text == "binary_value\n"


def test_a_file_for_nobody_here_changes_nothing(tmp_path):
    install(tmp_path, ASSETS / "secrets.yaml")
    words = [corpus.path("sops-nix/history/ef4b0cfd/broken-secrets.yaml"), "--dir", tmp_path / "secrets"]
    with pytest.raises(Exception, match="no key could unwrap"):
        materialize.main([*map(str, words), "--key-file", str(KEYS / "age-keys.txt")])
    assert os.listdir(tmp_path / "secrets.d") == ["1"]


def test_templates_rendered_beside_the_secrets(tmp_path):
    text = (
        f"This line is not modified.\nThe next value will be replaced by {placeholder('test_key')}\nThis one is not.\n"
    )
    (tmp_path / "t").write_text(text)
    (tmp_path / "d").write_text(f"Test value: {placeholder('nested/test/file')}\n")
    templates = ("--template", f"test_template={tmp_path / 't'}", "--template", f"test_default={tmp_path / 'd'}")
    rendered = install(tmp_path, ASSETS / "secrets.yaml", *templates) / "rendered"
    assert (rendered / "test_template").read_text() == text.replace(placeholder("test_key"), "test_value")
    assert (rendered / "test_default").read_text() == "Test value: another value\n"
    assert stat.S_IMODE((rendered / "test_template").stat().st_mode) == 0o400


def test_the_same_with_template(tmp_path, capfdbinary):
    (tmp_path / "t").write_text(f"Test value: {placeholder('test_key')}\n")
    words = [tmp_path / "t", "--secrets", ASSETS / "secrets.yaml", "--key-file", KEYS / "ssh-ed25519-key"]
    assert template.main([str(word) for word in words]) == 0
    assert capfdbinary.readouterr().out == b"Test value: test_value\n"
