"""The `sops` branch is written as sops writes it: names, order, types, and what is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.keys import KEY_TYPES
from krm_sops.metadata import Metadata
from krm_sops.selection import RULES, Selection
from krm_sops.stores import STORES
from krm_sops.stores.flatten import flatten, unflatten
from krm_sops.tree import Branch, Entry
from tests.trees import branch, exact

MOMENT = "2026-06-30T00:00:00Z"
FIELDS = {
    "kms": {"arn": "arn:aws:kms:eu-west-1:1:key/k", "aws_profile": "", "created_at": MOMENT, "enc": "QQ=="},
    "gcp_kms": {"created_at": MOMENT, "enc": "QQ==", "resource_id": "projects/p"},
    "hckms": {"created_at": MOMENT, "enc": "QQ==", "key_id": "tr-west-1:id"},
    "azure_kv": {"created_at": MOMENT, "enc": "QQ", "name": "n", "vault_url": "https://v", "version": "1"},
    "hc_vault": {
        "created_at": MOMENT,
        "enc": "vault:v1:QQ==",
        "engine_path": "transit",
        "key_name": "k",
        "vault_address": "https://vault",
    },
    "pgp": {"created_at": MOMENT, "enc": "-----BEGIN PGP MESSAGE-----\n", "fp": "A" * 40},
    "age": {"enc": "-----BEGIN AGE ENCRYPTED FILE-----\n", "recipient": "age1x"},
}
every_key_type = pytest.mark.parametrize("section", list(KEY_TYPES))


def metadata(*groups, threshold=0, only_encrypted=False, rule="", pattern=""):
    """groups: of sections."""
    return Metadata(
        lastmodified=MOMENT,
        mac="ENC[mac]",
        version="3.13.3",
        key_groups=[[KEY_TYPES[section].from_fields(FIELDS[section]) for section in group] for group in groups],
        threshold=threshold,
        mac_only_encrypted=only_encrypted,
        selection=Selection(rule, pattern),
    )


def written(*groups, **options):
    return metadata(*groups, **options).to_branch()


def test_one_group_stands_at_the_top_and_what_is_not_set_nowhere():
    assert exact(written(["age"])) == exact(
        branch(age=[branch(**FIELDS["age"])], lastmodified=MOMENT, mac="ENC[mac]", version="3.13.3")
    )


@every_key_type
def test_the_fields_of_a_key_are_written_as_they_were(section):
    (entry,) = written([section]).get(section)
    assert exact(entry) == exact(branch(**FIELDS[section]))


@pytest.mark.parametrize("section", [section for section in KEY_TYPES if "created_at" in FIELDS[section]])
@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-06-30T00:00:00.123Z", MOMENT),
        ("2026-06-30T00:00:00+00:00", MOMENT),
        ("2026-06-30T02:00:00+02:00", "2026-06-30T02:00:00+02:00"),
    ],
)
def test_the_moment_of_a_key_is_written_as_go_does(section, moment, expected):
    key = KEY_TYPES[section].from_fields(FIELDS[section] | {"created_at": moment})
    found = metadata([section])
    found.key_groups = [[key]]
    (entry,) = found.to_branch().get(section)
    assert entry.get("created_at") == expected


def test_a_context_is_a_mapping_sorted_by_name_and_a_role_stands_only_where_there_is_one():
    fields = FIELDS["kms"] | {"context.b": "2", "context.A": "1", "role": "r"}
    found = metadata(["kms"])
    found.key_groups = [[KEY_TYPES["kms"].from_fields(fields)]]
    (entry,) = found.to_branch().get("kms")
    assert entry.keys() == ["arn", "aws_profile", "context", "created_at", "enc", "role"]
    assert exact(entry.get("context")) == exact(branch(A="1", b="2"))


def test_several_groups_are_a_list_in_which_age_and_vault_always_stand():
    found = written(["pgp"], ["age", "kms"], threshold=2)
    assert found.keys() == ["key_groups", "lastmodified", "mac", "shamir_threshold", "version"]
    assert found.get("shamir_threshold") == 2
    first, second = found.get("key_groups")
    assert first.keys() == ["age", "hc_vault", "pgp"]
    assert first.get("age") == []
    assert first.get("hc_vault") == []
    assert second.keys() == ["age", "hc_vault", "kms"]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_written_and_everything_stands_in_alphabetical_order(rule):
    found = written(["age", "pgp", "kms"], only_encrypted=True, threshold=1, rule=rule, pattern="x")
    assert found.get(rule) == "x"
    assert found.get("mac_only_encrypted") is True
    assert found.keys() == sorted(found.keys())


@pytest.mark.parametrize("groups", [[list(KEY_TYPES)], [["age", "age"], ["pgp"], ["hckms", "azure_kv"]]])
@pytest.mark.parametrize("format_", list(STORES))
def test_what_is_written_is_read_again_in_every_format(format_, groups):
    before = metadata(*groups, threshold=2, only_encrypted=True, rule="encrypted_regex", pattern="^(a|b)$")
    store = STORES[format_]
    document = {"ini": branch(s=branch(data="x"))}.get(format_, branch(data="x"))
    branches, block = store.read(store.write_encrypted([document], before.to_branch()))
    assert block is not None
    after = Metadata.from_branch(block, 100)
    assert exact(after.to_branch()) == exact(before.to_branch())
    assert exact(branches[-1].entries[-1].value) == exact(document.entries[-1].value)


NAMES = st.text("abc_", min_size=1, max_size=5).filter(lambda name: "__" not in name)
LEAVES = st.text(max_size=5) | st.integers() | st.booleans()
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(
            lambda found: Branch(Entry(name, found[name]) for name in sorted(found))
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4))
def test_flat_keys_spell_the_tree_they_were_made_of(found):
    tree = Branch(Entry(name, found[name]) for name in sorted(found))
    assert exact(unflatten(flatten(tree))) == exact(tree)


def test_empty_collections_leave_no_flat_key():
    assert flatten(branch(a=[], b=Branch(), c=[Branch()], d="x")) == [Entry("d", "x")]
