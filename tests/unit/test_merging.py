"""What kustomize understands by a kustomization. tests/e2e/test_render.py asks kustomize itself."""

from __future__ import annotations

import pytest

from krm_sops.builds.merging import merged
from krm_sops.errors import InputError
from krm_sops.limits import FUNCTION
from krm_sops.stores.json import in_one_line
from krm_sops.yamlio import read


def understood(text: str, *, is_old: bool = True) -> str:
    return in_one_line(merged(read(text, FUNCTION, 1000), is_old=is_old)).replace(" ", "")


@pytest.mark.parametrize(
    ("spelled", "old", "new"),
    [
        ("yes", "true", '"yes"'),
        ("N", "false", '"N"'),
        ("Off", "false", '"Off"'),
        ("oN", '"oN"', '"oN"'),
        ("'yes'", '"yes"', '"yes"'),
        ("!!str yes", '"yes"', '"yes"'),
        ("&a yes", "true", '"yes"'),
        ("2001-01-01", '"2001-01-01"', '"2001-01-01T00:00:00Z"'),
        ("010", "8", "8"),
        ("~", "null", "null"),
        ("12:30:45", '"12:30:45"', '"12:30:45"'),
    ],
)
def test_a_scalar(spelled, old, new):
    assert understood(f"{{x: [{spelled}], z: {spelled.replace('&a ', '&b ')}}}") == f'{{"x":[{old}],"z":{old}}}'
    assert understood(f"x: {spelled}\n", is_old=False) == f'{{"x":{new}}}'


def test_an_alias_means_what_its_anchor_means():
    text = "a: &a yes\nb: &b [no, &c on, {k: off}]\nc: *a\nd: [*b, *c, 'y', y]\ne: *c\nf: &f 2001-01-01\ng: *f\nh: y\n"
    inner = '[false,true,{"k":false}]'
    assert understood(text) == (
        f'{{"a":true,"b":{inner},"c":true,"d":[{inner},true,"y",true],"e":true,"f":"2001-01-01","g":"2001-01-01","h":true}}'
    )


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("{<<: {x: 1, y1: 2}, x: 3}", '{"x":3,"y1":2}', '{"x":3,"y1":2}'),
        ("{x: 3, <<: {x: 1, y1: 2}}", '{"x":1,"y1":2}', '{"x":3,"y1":2}'),
        ("{<<: [{x: 1, b: 1}, {x: 2, c: 2}]}", '{"b":1,"c":2,"x":1}', '{"b":1,"c":2,"x":1}'),
        ("{<<: {<<: {z: 1, x: 1}, x: 2}}", '{"x":2,"z":1}', '{"x":2,"z":1}'),
        ('{"<<": {x: 1}}', '{"<<":{"x":1}}', '{"<<":{"x":1}}'),
        ("{a: &a {x: on}, b: {<<: *a, z: off}}", '{"a":{"x":true},"b":{"x":true,"z":false}}', None),
    ],
)
def test_merge_keys(text, old, new):
    import json

    def ordered(given: str) -> str:
        return json.dumps(json.loads(given), sort_keys=True, separators=(",", ":"))

    assert ordered(understood(text)) == old
    assert new is None or ordered(understood(text, is_old=False)) == new


@pytest.mark.parametrize(
    "text", ["{<<: 1}", "{<<: [1]}", "{<<: ~}", "{y: 1}", "{1: 1}", "{on: 1}", "{~: 1}", "{&a b: 1, c: *a}"]
)
def test_what_kustomize_would_not_take_is_an_error(text):
    with pytest.raises(InputError):
        understood(text)
