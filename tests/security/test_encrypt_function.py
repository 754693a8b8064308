"""S6, S11, S16, S17, S18: what SopsEncrypt believes, what it reuses, and what it never lets out plain."""

from __future__ import annotations

import random
import re
from base64 import b64decode, b64encode

import pytest
import yaml

from krm_sops.cipher import DataKey, decrypt_value
from krm_sops.values import mac_bytes
from tests.pipeline import HEAD, RULE, call, decrypted, encrypted, encrypting, items_of, refused, rendered
from tests.security import made

ORIGINAL = "krm-sops.dev/original"
PLAIN = {
    **made.PLAIN,
    "stringData": {"user": "plain-of-user", "password": "plain-of-password", "token": "plain-of-token"},
}


def document(**options: object) -> str:
    return made.yaml(made.encrypted(PLAIN, **options))


def placed(text: str, path: str, index: int = 0) -> str:
    """As kpt hands it over."""
    note = f'  annotations:\n    "internal.config.kubernetes.io/path": "{path}"\n'
    return text.replace("metadata:\n", f'metadata:\n{note}    "internal.config.kubernetes.io/index": "{index}"\n', 1)


def other(name: str = "other") -> str:
    return made.yaml(made.encrypted({**PLAIN, "metadata": {"name": name}}))


def states(plain: str) -> list[str]:
    return re.findall(rf'"{ORIGINAL}": "([^"]*)"', plain)


def changed(plain: str) -> str:
    return plain.replace("plain-of-user", "another-user")


def test_no_key_and_iv_ever_meet_two_places_or_plaintexts():
    """S18: whatever functions do to the values, an IV belongs to one value at one path."""
    chance = random.Random(18)
    values = ["one", "two", "three", "1", "", "true"]
    items = items_of(document())
    seen: dict[str, tuple[bytes, object]] = {}
    for _ in range(60):
        plain = decrypted(items)
        head, _, _ = plain.partition("  stringData:\n")
        names = chance.sample(["user", "password", "token", "new"], chance.randrange(1, 5))
        data = "".join(f'    {name}: "{chance.choice(values)}"\n' for name in names)
        lists = f'    list: ["{chance.choice(values)}", "{chance.choice(values)}"]\n'
        items = encrypted(f"{head}  stringData:\n{data}{lists}")
        [item] = yaml.safe_load(HEAD + items)["items"]
        for path, sealed in made.leaves(item["stringData"], ("stringData",)):
            if not sealed:
                continue
            aad = ":".join((*path, "")).encode()
            value = decrypt_value(sealed, DataKey(made.DATA_KEY), aad, path)
            iv = sealed.split(",iv:")[1].split(",")[0]
            assert seen.setdefault(iv, (aad, mac_bytes(value))) == (aad, mac_bytes(value))
            assert len(b64decode(iv)) == 32
    assert len(seen) > 60


def test_equal_values_at_other_places_get_other_ciphertexts():
    """S18: a value that moved, or is there twice, is encrypted anew: nothing shows that they are equal."""

    def change(plain: str) -> str:
        return plain.replace('"plain-of-password"', '"plain-of-user"')

    items = items_of(document())
    after = rendered(items, change)
    [item] = yaml.safe_load(HEAD + after)["items"]
    [before] = yaml.safe_load(HEAD + items)["items"]
    data = item["stringData"]
    assert data["user"] == before["stringData"]["user"]
    assert data["password"] not in before["stringData"].values()
    assert data["password"].split(",")[1] != data["user"].split(",")[1]


def test_a_value_that_changes_its_type_gets_a_fresh_ciphertext():
    """S18."""
    spec = {**made.PLAIN, "kind": "Other", "spec": {"count": 1, "name": "x"}}
    items = items_of(made.yaml(made.encrypted({k: v for k, v in spec.items() if k != "stringData"})))
    after = rendered(items, lambda plain: plain.replace("count: 1", 'count: "1"'))
    assert ",type:int]" in items
    assert ",type:int]" not in after


@pytest.mark.parametrize("is_placed", [True, False], ids=["with paths", "without"])
def test_the_state_of_another_document_is_refused(is_placed):
    """S18: with it an item would get the other one's recipients."""
    texts = [document(), other()]
    if is_placed:
        texts = [placed(text, f"{at}.yaml") for at, text in enumerate(texts)]
    plain = decrypted(items_of(*texts))
    one, two = states(plain)
    swapped = plain.replace(one, "@").replace(two, one).replace("@", two)
    _, results, status = call(swapped, encrypting())
    assert status == 1
    assert {result.reason for result in results} == {"MacMismatch"}
    assert "is not of this item" in results[0].message


def test_the_state_of_another_place_in_the_same_file_is_refused():
    """S18."""
    plain = decrypted(items_of(placed(document(), "a.yaml"), placed(other(), "b.yaml")))
    _, results, status = call(plain.replace("b.yaml", "c.yaml"), encrypting())
    assert status == 1
    assert [result.reason for result in results] == ["MacMismatch"]


def test_the_state_on_an_object_of_another_kind_is_refused():
    """S18."""
    plain = decrypted(items_of(placed(document(), "a.yaml")))
    assert "is not of this item" in refused(plain.replace('kind: "Secret"', 'kind: "ConfigMap"'), "MacMismatch").message


def test_a_state_that_somebody_else_made_is_refused():
    """S18: ciphertexts and a MAC that fit, but without the data key no tag."""
    plain = decrypted(items_of(document()))
    [state] = states(plain)
    raw = b64decode(state)
    for forged in (bytes(16) + raw[16:], raw[16:], raw[:16] + raw[16:].replace(b"db", b"dc", 1), b"", b"\xff" * 40):
        _, results, status = call(plain.replace(state, b64encode(forged).decode() or "-"), encrypting())
        assert status == 1
        assert {result.reason for result in results} <= {"MacMismatch", "InvalidDocument", "TagMismatch"}


def test_carried_state_is_mac_checked():
    """S6, S18: a state with a changed clear value, and the tag of the untouched one."""
    plain = decrypted(items_of(document()))
    [state] = states(plain)
    raw = b64decode(state)
    forged = raw.replace(b"Opaque", b"opaque")
    assert forged != raw
    assert refused(plain.replace(state, b64encode(forged).decode()), "MacMismatch").message.startswith("MAC mismatch")


def test_an_original_in_the_package_is_refused_before_anything_is_decrypted():
    """S6: the annotation is evidence only where SopsDecrypt set it."""
    text = made.yaml(made.encrypted({**PLAIN, "metadata": {"name": "db", "annotations": {ORIGINAL: "AAAA"}}}))
    _, results, status = call(items_of(text), {**encrypting(keepOriginal=True), "kind": "SopsDecrypt"})
    assert status == 1
    assert f"the annotation {ORIGINAL} on an item that is encrypted" in results[0].message


def test_without_the_key_nothing_is_encrypted_again():
    """S18: the ciphertexts are reused only by who can open them."""
    plain = decrypted(items_of(document()))
    refused(plain, "NoUsableKey", key=made.OTHER_IDENTITY)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"age": [{"recipient": made.RECIPIENT, "enc": made.WRAPPED}, {"recipient": "age1x", "enc": "junk"}]}, "age1x"),
        ({"encrypted_regex": "^(data|stringData|spec)$|x"}, "not by encrypted_regex"),
        ({"mac_only_encrypted": True}, "MAC covers"),
    ],
)
def test_a_document_that_differs_from_its_creation_rule_is_not_encrypted_again(options, told):
    """S16: the sops block is not authenticated; who added a recipient gets nothing new."""
    rule = {"creationRules": [RULE | {"encrypted_regex": made.encrypted()["sops"]["encrypted_regex"]}]}
    items = items_of(document(**options))
    assert rendered(items, **rule) == items
    error = refused(changed(decrypted(items)), "RecipientDrift", **rule)
    assert told in error.message
    error = refused(changed(decrypted(items)), "RecipientDrift", **rule, freshDataKey="onChange")
    assert "another-user" not in error.line()


def test_a_document_as_its_creation_rule_says_is_encrypted_again():
    """S16, the other side."""
    rule = {"creationRules": [RULE | {"encrypted_regex": made.encrypted()["sops"]["encrypted_regex"]}]}
    assert "another-user" not in rendered(items_of(document()), changed, **rule)


def test_a_masked_item_is_refused():
    """S27: asterisks never become the encrypted values."""
    secret = made.yaml({**PLAIN, "metadata": {"name": "db", "annotations": {"krm-sops.dev/masked": "true"}}})
    assert "masked" in refused(items_of(secret), "InvalidDocument", creationRules=[RULE]).message


@pytest.mark.parametrize(
    "spelled",
    [
        'kind: "\\x53ecret"',
        '"k\\x69nd": Secret',
        "? kind\n  : Secret",
        "kind: !!str Secret",
    ],
)
def test_a_secret_is_seen_however_it_is_spelled(spelled):
    """S17."""
    text = f"- apiVersion: v1\n  {spelled}\n  metadata: {{name: db}}\n  stringData:\n    a: plain-of-a\n"
    _, results, status = call(text, encrypting())
    assert status == 1
    assert "a Secret that is not encrypted" in results[0].message
    assert "plain-of-a" not in encrypted(text, creationRules=[RULE])


def test_a_trace_is_seen_however_it_is_spelled():
    """S17: an item whose annotation is overlooked would stay plain."""
    items = items_of(made.yaml(made.encrypted({**PLAIN, "kind": "Other", "spec": {"a": "plain-of-a"}})))
    plain = decrypted(items).replace(f'"{ORIGINAL}"', '"krm-sops\\u002edev/original"')
    assert encrypted(plain) == items


def test_what_lost_its_trace_is_an_error_where_kpt_says_which_file_it_is_from():
    """S6: also for kinds of which nobody else could tell that they were encrypted."""
    function = {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsDecrypt", "metadata": {"name": "sopsdecrypt"}}
    own = placed(made.yaml(function), "decrypt.yaml")
    item = placed(made.yaml(made.encrypted({**PLAIN, "kind": "Other"})), "a.yaml")
    config = yaml.safe_load(own) | {"spec": {"keepOriginal": True, "keys": [{"env": "KEY"}]}}
    plain, _, status = call(items_of(own, item), config)
    assert status == 0
    assert encrypted(plain) == items_of(own, item)
    lost = "".join(line for line in plain.splitlines(keepends=True) if ORIGINAL + '"' not in line)
    assert "is gone, so that it would stay plain" in refused(lost, "InvalidDocument").message


def _moved(path: str, *others: str, kind: str = "ConfigMap", old: tuple[str, str] = ("", "")) -> str:
    """What SopsEncrypt gets where a function took the trace of a.yaml away and gave it another path ("": none)."""
    function = {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsDecrypt", "metadata": {"name": "sopsdecrypt"}}
    own = placed(made.yaml(function), "decrypt.yaml")
    item = placed(made.yaml(made.encrypted({**PLAIN, "kind": kind})), "a.yaml")
    config = yaml.safe_load(own) | {"spec": {"keepOriginal": True, "keys": [{"env": "KEY"}]}}
    plain, _, status = call(items_of(own, item, *others), config)
    assert status == 0
    lines = [line for line in plain.splitlines(keepends=True) if ORIGINAL + '"' not in line]
    if not path:
        return "".join(line for line in lines if '"a.yaml"' not in line).replace(*old)
    return "".join(lines).replace("a.yaml", path).replace(*old)


def test_what_lost_its_trace_and_was_moved_is_an_error_that_names_both():
    """S6: at a place that nobody noted, or without one."""
    for path in ("zz.yaml", ""):
        for old in (("", ""), ("name: db", "name: other")):
            result = refused(_moved(path, old=old), "InvalidDocument")
            assert "document 0 of a.yaml was decrypted and is gone" in result.message
            assert path in result.line()


def test_what_was_plain_before_is_not_taken_for_an_item_that_was_deleted():
    """S6: a deletion is none of a trace."""
    other = placed("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: db\ndata: {a: b}\n", "b.yaml")
    plain = _moved("zz.yaml", other)
    items = yaml.safe_load(plain)
    left = [made.yaml(item) for item in items if "zz.yaml" not in item["metadata"]["annotations"].values()]
    assert len(left) == len(items) - 1
    encrypted(items_of(*left))
    moved = [text.replace("b.yaml", "c.yaml") for text in left]
    assert "is gone" in refused(items_of(*moved), "InvalidDocument").message


def test_a_key_in_the_config_never_leaves():
    """S11: on success and on failure."""
    items = items_of(document())
    plain = decrypted(items)
    for text in (plain, plain.replace("plain-of-user", "x").replace("kind:", "kinds:")):
        output, results, _ = call(text, encrypting(keys=[{"value": made.IDENTITY}]))
        assert made.IDENTITY not in output
        assert not any(made.IDENTITY in result.line() for result in results)


def test_a_key_secret_that_the_config_names_is_no_new_secret():
    """S11: it stays what it was, marked as local configuration."""
    items = items_of(document(), made.yaml(made.KEY_SECRET))
    reference = {"keys": None, "decryption": {"secretRef": {"name": "sops-keys"}}}
    reference.pop("keys")
    plain, _, status = call(items, {**encrypting(), "kind": "SopsDecrypt", "spec": {"keepOriginal": True, **reference}})
    assert status == 0
    output, results, status = call(plain, {**encrypting(), "spec": reference})
    assert (status, results) == (0, [])
    assert output.count("ENC[AES256_GCM,") == items.count("ENC[AES256_GCM,")


def test_no_message_holds_a_plaintext():
    """S10: whatever is wrong."""
    plain = changed(decrypted(items_of(document())))
    broken = [
        plain.replace(states(plain)[0], "AAAA"),
        plain.replace('    token: "plain-of-token"', '    token: &a "plain-of-token"\n    again: *a'),
        plain.replace("    token:", "    password:"),
        plain.replace("    token:", "    1:"),
    ]
    for text in broken:
        _, results, status = call(text, encrypting())
        assert status == 1
        for result in results:
            assert "plain-of" not in result.line() + result.hint
            assert "another-user" not in result.line() + result.hint
