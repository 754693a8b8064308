"""What is encrypted decrypts to the same, chosen values are ciphertext and no others, and unchanged ones stay."""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from krm_sops.cipher import DataKey, decrypt_value
from krm_sops.document import EncryptedDocument
from krm_sops.encryption import Carried, encrypt, encrypt_value, encrypted_file, shares
from krm_sops.errors import AlreadyEncrypted, ConfigError, InputError, KrmSopsError, StoreError
from krm_sops.keys.age import AgeKey
from krm_sops.metadata import Metadata
from krm_sops.selection import RULES, Selection
from krm_sops.shamir import combine
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment, Entry, Timestamp, leaves, to_bytes
from krm_sops.values import mac_bytes
from tests.trees import BRANCHES, DOCUMENTS, NODES, branch, exact

if TYPE_CHECKING:
    from krm_sops.tree import Leaf, Node

KEY = DataKey(bytes(range(32)))
NOW, LATER = "2026-06-30T00:00:00Z", "2026-07-01T00:00:00Z"
ENC = re.compile(r"ENC\[AES256_GCM,data:[^,]+,iv:[^,]{43}=,tag:[^,]{22}==,type:\w+\]")


def metadata(rule: str = "unencrypted_suffix", pattern: str = "_unencrypted", *, only: bool = False, groups: int = 1):
    return Metadata(
        lastmodified="",
        mac="",
        version="3.13.3",
        key_groups=[[AgeKey("age1x", "enc")] for _ in range(groups)],
        threshold=0,
        mac_only_encrypted=only,
        selection=Selection(rule, pattern),
    )


def file(format_: str, *branches: Branch, about: Metadata | None = None, **options: Any) -> bytes:
    return encrypted_file(list(branches), about or metadata(), KEY, STORES[format_], now=NOW, **options)


def opened(raw: bytes, format_: str) -> list[Branch]:
    branches, block = STORES[format_].read(raw)
    assert block is not None
    return EncryptedDocument(branches, Metadata.from_branch(block, 100)).decrypt(KEY)[0]


def all_leaves(branches: list[Branch]) -> list[Leaf]:
    return [leaf for document in branches for leaf in leaves(document)]


# One value


VECTORS: list[tuple[str, Any, str]] = [
    (
        "a:",
        "hello",
        "data:ZVBFY8g=,iv:EuWJzMZ1Dd/VPted9rDwafYUZhF/uE4Mdv20lv8GEk0=,tag:LnL81N9/H/BB7kocg8DP1g==,type:str",
    ),
    (
        "d:e:",
        "naïve ☃",
        "data:EoVQlqb4JToDiw==,iv:j3AOwgrxeZ3ComH6+N/PfTQRXdbHGxV7MfaTH5bpg8s=,tag:Yf/7edyayghttbL4nS8yTA==,type:str",
    ),
    (
        "n:",
        12345678901234567,
        (
            "data:OsyPpknL6HhxojbJia3kh64=,iv:eWk5LfvD0NhhasLY/4n4aNWxFeEoH0UUI/nJitI8KuY=,"
            "tag:v1y546NkFdnpeEEIdBnMdw==,type:int"
        ),
    ),
    (
        "f:",
        1e21,
        (
            "data:ke/VKRNAQJplv+FzRkVF+GT2LMY2ew==,iv:0X6c1xWOWQC2LsGppEgU3ZMsmT3kfIlvKhsprgOXom8=,"
            "tag:dLF3q6PbOZJWgPcfsUjseA==,type:float"
        ),
    ),
    (
        "list:",
        False,
        "data:Wipk64M=,iv:Lrd6lPUSDKM+DL6Y7MSgiZPjLkdI5TnLRfmstCqJ4JE=,tag:U9ZVtfPWPOeUAiA2IryumA==,type:bool",
    ),
    (
        "t:",
        Timestamp("2001-12-14T21:59:43.1-05:00"),
        (
            "data:8G4CnV9JKX4KpsTyxQZau58oR3dSmPXBCnVt,iv:ZxI+DCkSsxewJUhI8SuW8tHjK5BEaviWL7UCvJJblmw=,"
            "tag:GiPSE8Pidq5UGmAhB/KD4w==,type:time"
        ),
    ),
    (
        ":",
        Comment(" c1"),
        "data:V91P,iv:mbYLy1IcUE4KVI3eIL5Ovq9XxyE0LQ9lRuktMk61NSA=,tag:spZRYbzZEcgxC3rrjiZwTA==,type:comment",
    ),
]
"""What sops 3.13 made under the same key."""


@pytest.mark.parametrize(("aad", "value", "fields"), VECTORS)
def test_a_value_is_encrypted_as_sops_encrypts_it(aad, value, fields):
    raw = {name: a2b_base64(field) for name, field in re.findall("(data|iv|tag):([^,]+)", fields)}
    plain = to_bytes(value.text) if isinstance(value, Comment) else mac_bytes(value)
    assert KEY.seal(raw["iv"], plain, aad.encode()) == raw["data"] + raw["tag"]
    made = encrypt_value(value, KEY, aad.encode())
    assert ENC.fullmatch(made)
    assert made.rpartition(":")[2] == fields.rpartition(":")[2] + "]"


@given(value=NODES.filter(lambda node: not isinstance(node, (Branch, list)) and node is not None), aad=st.binary())
def test_a_value_decrypts_to_the_same_value_of_the_same_type(value, aad):
    assert exact(decrypt_value(encrypt_value(value, KEY, aad), KEY, aad, ())) == exact(value)


@pytest.mark.parametrize("value", ["", Comment("")])
def test_what_is_empty_stays_empty(value):
    assert encrypt_value(value, KEY, b"a:") == ""


def test_equal_values_have_different_ivs_of_32_bytes():
    """S18"""
    texts = {encrypt_value("x", KEY, b"a:") for _ in range(1000)}
    assert len({text.split("iv:")[1].split(",")[0] for text in texts}) == 1000
    assert all(ENC.fullmatch(text) for text in texts)


# A document


PATTERNS = {
    "unencrypted_suffix": "_unencrypted",
    "encrypted_suffix": "_secret",
    "unencrypted_regex": "^(a|note)",
    "encrypted_regex": "pass|data",
    "unencrypted_comment_regex": "sops:clear",
    "encrypted_comment_regex": "sops:enc",
}
RULE_SETS = [metadata(rule, PATTERNS[rule], only=only) for rule in RULES for only in (False, True)] + [metadata("", "")]


def expected_choice(branches: list[Branch], rule: str, pattern: str) -> list[bool]:
    """For each leaf in walk order whether sops would encrypt it: shouldBeEncrypted of sops.go, told once more."""
    found: list[bool] = []

    def match(text: str) -> bool:
        if rule.endswith("suffix"):
            return text.endswith(pattern)
        return re.search(pattern.encode(), to_bytes(text)) is not None

    def judge(path: list[str], stack: list[list[str]], is_comment: bool) -> bool:
        if not rule:
            return True
        if rule == "encrypted_comment_regex":
            comments = [text for level in stack for text in level]
            if is_comment:
                comments.pop()
            return any(map(match, comments))
        if rule == "unencrypted_comment_regex":
            return not any(match(text) for level in stack for text in level)
        return any(map(match, path)) is rule.startswith("encrypted")

    def walk(node: Node, path: list[str], stack: list[list[str]]) -> None:
        if isinstance(node, (Branch, list)):
            stack = [*stack, []]
            for item in node.entries if isinstance(node, Branch) else node:
                comment = item.key if isinstance(item, Entry) else item
                if isinstance(comment, Comment):
                    stack[-1].append(comment.text)
                    found.append(judge(path, stack, True))
                    continue
                if isinstance(item, Entry):
                    assert isinstance(item.key, str)
                    walk(item.value, [*path, item.key], stack)
                else:
                    walk(item, path, stack)
                stack[-1].clear()
        else:
            found.append(judge(path, stack, False))

    for document in branches:
        walk(document, [], [])
    return found


def is_encrypted(leaf: Leaf) -> bool:
    text = leaf.text if isinstance(leaf, Comment) else leaf
    return isinstance(text, str) and ENC.fullmatch(text) is not None


@pytest.mark.parametrize("about", RULE_SETS, ids=lambda about: f"{about.selection.rule} {about.mac_only_encrypted}")
@given(branches=DOCUMENTS)
def test_exactly_the_chosen_values_are_encrypted_and_all_decrypt_to_the_same(about, branches):
    document = encrypt(branches, about, KEY, now=NOW)
    chosen = expected_choice(branches, about.selection.rule, about.selection.pattern)
    for before, after, wanted in zip(all_leaves(branches), all_leaves(document.branches), chosen, strict=True):
        has_text = before not in (None, "", Comment(""))
        assert is_encrypted(after) is (wanted and has_text)
        if not wanted:
            assert exact(after) == exact(before)
    plain, _ = document.decrypt(KEY)
    assert exact(plain) == exact(branches)
    assert document.metadata.lastmodified == NOW
    assert (about.mac, about.lastmodified) == ("", "")


@pytest.mark.parametrize(
    ("only", "digest"),
    [
        (
            False,
            (
                "A8285646BF38E638B08857B58636DDD7B7B4D71A2D5217E30833D6FB28F3A454"
                "B0D997366C41DBE6E450550B95570054B907D12362E55BD4E5AA9D2CD8FE0B94"
            ),
        ),
        (
            True,
            (
                "71506C0409D4C6B6CAB5FC11A298FC640F6FE1BBE112761D538AFC38A82F59CA"
                "0669CC08E7448A2290EA18881769437763962AAB3CD484CDEBFF82D38FD49E85"
            ),
        ),
    ],
)
def test_the_mac_is_that_of_sops(only, digest):
    document = branch(" c", a="x", b_unencrypted=[1, 2.5, True, None, ""], t=Timestamp("2001-12-14T21:59:43.1-05:00"))
    found = encrypt([document], metadata(only=only), KEY, now=NOW).metadata
    assert decrypt_value(found.mac, KEY, NOW.encode(), ()) == digest


@given(branches=DOCUMENTS)
def test_a_document_of_a_wrong_key_or_moment_does_not_verify(branches):
    document = encrypt(branches, metadata(), KEY, now=NOW)
    document.metadata = document.metadata.with_mac(document.metadata.mac, LATER)
    with pytest.raises(KrmSopsError, match="MAC cannot be decrypted"):
        document.decrypt(KEY)


# Comments


def test_a_comment_in_a_list_becomes_a_text_as_in_sops():
    document = encrypt([branch(a=[Comment(" c"), "x"])], metadata(), KEY, now=NOW)
    (found,) = [entry.value for entry in document.branches[0].entries]
    assert [type(element) for element in found] == [str, str]
    assert found[0].endswith(",type:comment]")


def test_under_a_comment_rule_it_stays_a_comment_that_hides_nothing():
    """sops would make a text of the second comment, behind which nothing is taken for encrypted."""
    about = metadata("encrypted_comment_regex", "sops:enc")
    document = encrypt([branch(a=[Comment("sops:enc"), Comment(" c"), "x", "clear"])], about, KEY, now=NOW)
    (found,) = [entry.value for entry in document.branches[0].entries]
    assert [type(element) for element in found] == [Comment, Comment, str, str]
    assert found[0].text == "sops:enc"
    assert is_encrypted(found[1])
    assert is_encrypted(found[2])
    assert found[3] == "clear"


def test_an_empty_comment_is_no_element():
    document = encrypt([branch("", a=[Comment(""), "x"])], metadata(), KEY, now=NOW)
    assert exact(document.decrypt(KEY)[0]) == exact([branch("", a=[Comment(""), "x"])])
    assert document.branches[0].entries[1].value[0] == Comment("")  # type: ignore[index]


def test_a_comment_that_is_ciphertext_already_stays():
    text = encrypt_value(Comment("x"), KEY, b"elsewhere:")
    document = encrypt([branch(text, a="x")], metadata(), KEY, now=NOW)
    assert document.branches[0].entries[0].key == Comment(text)
    assert exact(document.decrypt(KEY)[0]) == exact([branch(text, a="x")])


def test_a_comment_at_the_end_of_a_line_stays_there():
    document = encrypt([Branch([Entry(Comment(" c", inline=True), None), Entry("a", "x")])], metadata(), KEY, now=NOW)
    comment = document.branches[0].entries[0].key
    assert isinstance(comment, Comment)
    assert comment.inline


@pytest.mark.parametrize(
    "text",
    [
        "a:\n    b:\n        - x\n    # note\nc: y\n",
        "a:\n    - b:\n          c: x\n      # note\n",
        "a:\n    - b: x\n      # of the list\n    # of the list too\nc: y\n",
        "a:\n    b:\n        c: x\n    # behind c\nd: y\n",
        "a:\n    - b: []\n    # behind\n# before\nc: y\n",
        "? |\n    a\n: # on the line\n    b: x\n",
        "- x".replace("- x", "a:\n    # first\n    - - x\n    # last\n"),
        "# only\n{}\n",
    ],
)
def test_every_comment_decrypts_wherever_its_reader_finds_it(text):
    plain = STORES["yaml"].read_plain(text.encode())
    raw = encrypted_file(plain, metadata(), KEY, STORES["yaml"], now=NOW)
    found = all_leaves(opened(raw, "yaml"))
    assert sorted(leaf.text for leaf in found if isinstance(leaf, Comment)) == sorted(
        leaf.text for leaf in all_leaves(plain) if isinstance(leaf, Comment)
    )
    assert [exact(leaf) for leaf in found if not isinstance(leaf, Comment)] == [
        exact(leaf) for leaf in all_leaves(plain) if not isinstance(leaf, Comment)
    ]


def test_no_comment_becomes_clear_because_it_moves():
    """The reader finds it in the list, which the rule leaves clear; so it stays where it is, as ciphertext."""
    plain = STORES["yaml"].read_plain(b"a:\n    b:\n        - x\n    # hidden\n")
    about = metadata("unencrypted_regex", "^b$")
    raw = encrypted_file(plain, about, KEY, STORES["yaml"], now=NOW)
    assert b"hidden" not in raw
    (comment,) = [leaf for leaf in all_leaves(opened(raw, "yaml")) if isinstance(leaf, Comment)]
    assert is_encrypted(comment)


# Refusals


@pytest.mark.parametrize(
    ("document", "about"),
    [
        (Branch([Entry(1, "x")]), metadata()),
        (branch(a=Branch([Entry(True, "x")])), metadata()),
        (branch(a=1 << 63), metadata()),
        (branch(a_unencrypted=[-(1 << 63) - 1]), metadata()),
        (branch(" c", a="x"), metadata("unencrypted_comment_regex", "ENC")),
        (branch(a=[Comment(" c"), "x"]), metadata("unencrypted_comment_regex", r"type:comment\]$")),
    ],
)
def test_what_sops_cannot_encrypt_is_refused(document, about):
    with pytest.raises(InputError) as caught:
        encrypt([document], about, KEY, now=NOW)
    assert caught.value.exit_status == 23


@pytest.mark.parametrize(
    ("format_", "document"),
    [
        ("yaml", branch(a="x", sops="y")),
        ("json", branch(sops=branch())),
        ("ini", branch(sops=branch(a="x"))),
        ("dotenv", branch(sops_version="1")),
        ("dotenv", branch(a="x", sops_="1")),
    ],
)
def test_what_has_metadata_is_not_encrypted_again(format_, document):
    with pytest.raises(AlreadyEncrypted) as caught:
        file(format_, document)
    assert caught.value.exit_status == 203


@pytest.mark.parametrize(
    ("format_", "document"),
    [
        ("yaml", branch(a=branch(sops="y"), sops_a="x")),
        ("json", branch(sops_version="x")),
        ("dotenv", branch(sops="x", SOPS_A="y")),
        ("ini", branch(Sops=branch(sops="x"))),
    ],
)
def test_other_keys_that_look_like_it_are_none(format_, document):
    assert exact(opened(file(format_, document), format_)[-1].entries[-1]) == exact(document.entries[-1])


def test_the_key_sops_in_a_later_document_is_refused():
    with pytest.raises(StoreError, match="reserved") as caught:
        file("yaml", branch(a="x"), branch(sops="y"))
    assert caught.value.exit_status == 4


@pytest.mark.parametrize("format_", ["json", "dotenv", "ini", "binary"])
def test_no_document_of_several_is_lost(format_):
    inner = branch(data=branch(a="x")) if format_ == "ini" else branch(data="x")
    with pytest.raises(StoreError, match="one document, not 2") as caught:
        file(format_, inner, inner)
    assert caught.value.exit_status == 4
    assert len(opened(file("yaml", inner, inner), "yaml")) == 2


class Forgetful:
    """A store that leaves out a document when it writes."""

    is_reserved = STORES["yaml"].is_reserved
    read = STORES["yaml"].read

    def write_encrypted(self, branches: list[Branch], about: Branch, indent: int | None = None) -> bytes:
        return STORES["yaml"].write_encrypted(branches[:1], about, indent)


def test_a_document_that_no_mac_covers_is_missed_too():
    with pytest.raises(StoreError, match="of 2 documents 1 were left"):
        encrypted_file([branch(a="x"), branch(b=None)], metadata(), KEY, Forgetful(), now=NOW)


@pytest.mark.parametrize(
    ("format_", "document"),
    [
        ("dotenv", branch(a=None)),
        ("dotenv", branch(a_unencrypted=True)),
        ("dotenv", branch(a_unencrypted="backslash \\n")),
        ("ini", branch(s=branch(a=None))),
        ("ini", branch(s=branch(a_unencrypted='"q"'))),
        ("ini", branch(s=branch(**{" a": "x"}))),
        ("ini", branch(s=branch(**{"-": "x"}))),
        ("json", branch(a_unencrypted=float("nan"))),
        ("json", branch(**{"\udcff": "x"})),
        ("yaml", Branch([Entry("a", "x"), Entry("a", "y")])),
    ],
)
def test_what_the_format_would_spell_otherwise_is_refused_and_not_shown(format_, document):
    with pytest.raises(StoreError) as caught:
        file(format_, document)
    assert caught.value.exit_status == 4
    assert "backslash" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_comment_that_would_choose_another_value_is_refused():
    """The comment in front of b is read back in front of the mapping, and so would hold for c as well."""
    plain = STORES["yaml"].read_plain(b"? |\n    a\n:\n    # sops:enc\n    b: x\n    c: y\n")
    with pytest.raises(StoreError, match="could not be decrypted again") as caught:
        encrypted_file(plain, metadata("encrypted_comment_regex", "sops:enc"), KEY, STORES["yaml"], now=NOW)
    assert "a comment may have moved" in caught.value.hint


# Formats


FLAT_TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
FLAT_NAME = st.text("abcdefgh_", min_size=1, max_size=6).filter(lambda name: not name.startswith("sops"))


@given(st.dictionaries(FLAT_NAME, FLAT_TEXT | st.sampled_from(["a\nb", " x ", "\\", '"q"', "#", "a=b"]), max_size=4))
def test_flat_files_open_again(values):
    encrypted = {name: value for name, value in values.items() if not name.endswith("_unencrypted")}
    document = Branch(Entry(name, value) for name, value in encrypted.items())
    assert exact(opened(file("dotenv", document), "dotenv")) == exact([document])
    (found,) = opened(file("ini", Branch([Entry("s", document)])), "ini")
    assert exact(found.get("s")) == exact(document)


@given(st.binary(max_size=60))
def test_any_bytes_open_again(raw):
    branches = STORES["binary"].read_plain(raw)
    about = metadata("", "")
    encrypted = file("binary", *branches, about=about)
    assert STORES["binary"].write_plain(opened(encrypted, "binary")) == raw
    assert b"suffix" not in encrypted
    assert b"regex" not in encrypted


@pytest.mark.parametrize("format_", ["yaml", "json"])
@given(document=BRANCHES)
def test_a_tree_opens_again_or_is_refused(format_, document):
    if any(key in ("sops", "<<") for key in document.keys()):  # noqa: SIM118
        assume(False)
    try:
        raw = file(format_, document, about=metadata("", ""))
    except (StoreError, UnicodeEncodeError):
        return
    found = all_leaves(opened(raw, format_))
    expected = all_leaves([document])

    def values(leaves: list[Leaf]) -> list[object]:
        return [exact(leaf) for leaf in leaves if not isinstance(leaf, Comment)]

    assert values(found) == values(expected)


# Ciphertexts that stay


def carried(document: EncryptedDocument) -> Carried:
    return Carried(document, document.decrypt(KEY)[0])


@pytest.mark.parametrize("about", RULE_SETS, ids=lambda about: f"{about.selection.rule} {about.mac_only_encrypted}")
@given(branches=DOCUMENTS)
def test_a_document_that_did_not_change_stays_to_the_last_byte(about, branches):
    before = encrypt(branches, about, KEY, now=NOW)
    after = encrypt(branches, about, KEY, now=LATER, carried=carried(before))
    assert exact(after.branches) == exact(before.branches)
    assert (after.metadata.mac, after.metadata.lastmodified) == (before.metadata.mac, NOW)


@given(branches=DOCUMENTS, extra=st.text(max_size=3))
def test_a_new_value_leaves_the_others_and_renews_the_mac(branches, extra):
    before = encrypt(branches, metadata(), KEY, now=NOW)
    added = [*branches[:-1], Branch([*branches[-1].entries, Entry("new key", extra)])]
    after = encrypt(added, metadata(), KEY, now=LATER, carried=carried(before))
    assert exact(all_leaves(after.branches)[: len(all_leaves(branches))]) == exact(all_leaves(before.branches))
    assert after.metadata.mac != before.metadata.mac
    assert after.metadata.lastmodified == LATER
    assert exact(after.decrypt(KEY)[0]) == exact(added)


BEFORE = branch(
    " c", a="x", b=["x", "x", "y"], n=1, t="2", f=1.0, d=branch(e="x"), g=[branch(h="x"), branch(h="x")], z="same"
)


@pytest.mark.parametrize(
    ("change", "renewed"),
    [
        ({"a": "y"}, {"a"}),
        ({"n": "1"}, {"n"}),
        ({"n": True}, {"n"}),
        ({"n": 1.0}, {"n"}),
        ({"f": 1}, {"f"}),
        ({"t": 2}, {"t"}),
        ({"b": ["x", "y"]}, {"b.1"}),
        ({"b": ["new", "x", "x", "y"]}, {"b.0", "b.2", "b.3"}),
        ({"b": [Comment(" n"), "x", "x", "y"]}, {"comment"}),
        ({"b": "x"}, {"b"}),
        ({"d": branch(e="x", e2="x")}, {"d.e2"}),
        ({"d": branch(e2="x")}, {"d.e2"}),
        ({"g": [branch(h="x")]}, set()),
        ({"g": [branch(h="y"), branch(h="x")]}, {"g.0.h"}),
        ({"z": ""}, set()),
        ({"a_unencrypted": "x"}, set()),
    ],
)
def test_a_value_keeps_its_ciphertext_only_at_its_place_with_its_type_and_bytes(change, renewed):
    """S18"""
    before = encrypt([BEFORE], metadata(), KEY, now=NOW)
    entries = [Entry(entry.key, change.get(entry.key, entry.value)) for entry in BEFORE.entries]  # type: ignore[call-overload]
    entries += [Entry(key, value) for key, value in change.items() if key not in BEFORE.keys()]  # noqa: SIM118
    after = encrypt([Branch(entries)], metadata(), KEY, now=LATER, carried=carried(before))

    def ciphertexts(document: EncryptedDocument) -> dict[str, str]:
        found: dict[str, str] = {}

        def walk(node: Node, path: str) -> None:
            if isinstance(node, Branch):
                for entry in node.entries:
                    if isinstance(entry.key, Comment):
                        found[f"{path}comment"] = entry.key.text
                    else:
                        walk(entry.value, f"{path}{entry.key}.")
            elif isinstance(node, list):
                at = 0
                for element in node:
                    if isinstance(element, str) and element.endswith("type:comment]"):
                        found["in list"] = element
                    else:
                        walk(element, f"{path}{at}.")
                        at += 1
            elif isinstance(node, str) and node.startswith("ENC["):
                found[path[:-1]] = node

        walk(document.branches[0], "")
        return found

    old, new = ciphertexts(before), ciphertexts(after)
    ours = {path for path, text in new.items() if old.get(path) != text}
    assert ours == ({"in list"} if renewed == {"comment"} else renewed)
    assert exact(after.decrypt(KEY)[0]) == exact([Branch(entries)])
    assert after.metadata.mac != before.metadata.mac


def test_of_equal_keys_each_keeps_its_own():
    document = Branch([Entry("a", "x"), Entry("a", "x"), Entry("a", "y")])
    before = encrypt([document], metadata(), KEY, now=NOW)
    after = encrypt([document, branch(b="x")], metadata(), KEY, now=LATER, carried=carried(before))
    assert exact(after.branches[0]) == exact(before.branches[0])
    assert len(set(all_leaves(before.branches))) == 3


def test_another_rule_is_a_change_and_makes_clear_what_it_says():
    before = encrypt([BEFORE], metadata(), KEY, now=NOW)
    after = encrypt([BEFORE], metadata("encrypted_regex", "^a$"), KEY, now=LATER, carried=carried(before))
    assert after.branches[0].get("a") == before.branches[0].get("a")
    assert after.branches[0].get("z") == "same"
    assert after.metadata.lastmodified == LATER


def test_what_the_mac_covers_is_part_of_the_rule():
    before = encrypt([BEFORE], metadata(), KEY, now=NOW)
    after = encrypt([BEFORE], metadata(only=True), KEY, now=LATER, carried=carried(before))
    assert after.metadata.lastmodified == LATER
    assert exact(after.decrypt(KEY)[0]) == exact([BEFORE])


# Shares


def test_one_group_wraps_the_data_key_itself():
    about = metadata()
    assert shares(bytes(32), about) == [bytes(32)]
    assert about.threshold == 0


@pytest.mark.parametrize(("threshold", "stated"), [(0, 3), (2, 2), (3, 3)])
def test_several_groups_wrap_a_share_each(threshold, stated):
    about = metadata(groups=3)
    about.threshold = threshold
    parts = shares(bytes(range(32)), about)
    assert about.threshold == stated
    assert {len(part) for part in parts} == {33}
    assert combine(parts[:stated]) == bytes(range(32))
    assert about.to_branch().get("shamir_threshold") == stated


@pytest.mark.parametrize("threshold", [1, 4])
def test_a_threshold_that_the_groups_do_not_allow_is_refused(threshold):
    about = metadata(groups=3)
    about.threshold = threshold
    with pytest.raises(ConfigError, match="3 key groups"):
        shares(bytes(32), about)


def test_the_bytes_of_the_mac_are_those_of_the_values():
    """The property on which carrying rests: equal bytes and type are the same value."""
    assert mac_bytes(1.0) == mac_bytes(1) == mac_bytes("1")
