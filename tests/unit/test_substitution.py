"""`${var}`: Flux's rules, and what is never looked at."""

from __future__ import annotations

import pytest

from krm_sops.errors import InputError
from krm_sops.stages.substitution import substituted
from tests.stagesets import Outcome, at, config_map, key_secret, secret, stage_set

KEY = at("key.yaml", key_secret())
VARIABLES = {"a": "1", "empty": "", "b": "${a}", "_x9": "y"}
EXPRESSIONS = {
    "": "",
    "text $a $ {a}": "text $a $ {a}",
    "${a}": "1",
    "x${a}y${_x9}z": "x1yyz",
    "${b}": "${a}",  # what is put in is not looked at again
    "${empty}": "",
    "${none:=d}": "d",
    "${none:-d}": "d",
    "${none=d}": "d",
    "${none-d}": "d",
    "${a:=d}": "1",
    "${empty:=d}": "d",
    "${none:=}": "",
    "${none:=${a}-${also:=${_x9}}}": "1-y",
    "${none:=a b:c/d}": "a b:c/d",
    "$${a}": "${a}",
    "$${a}${a}$$${a}": "${a}1$${a}",
    "$${none:=${a}}": "${none:=1}",
    "${a}}": "1}",
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expressions_become_what_flux_makes_of_them(text):
    assert substituted(text, VARIABLES) == EXPRESSIONS[text]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("${none}", "the variable none is not set"),
        ("${", "without a name and a closing brace"),
        ("${a", "without a name and a closing brace"),
        ("${}", "without a name and a closing brace"),
        ("${1a}", "without a name and a closing brace"),
        ("${a.b}", "an operator that is not supported"),
        ("${a^^}", "an operator that is not supported"),
        ("${a/1/2}", "an operator that is not supported"),
        ("${#a}", "without a name"),
        ("${x:=" * 50 + "1" + "}" * 50, "without a name and a closing brace"),
    ],
)
def test_what_cannot_be_substituted_is_an_error_without_any_value(text, why):
    with pytest.raises(InputError, match=why) as caught:
        substituted(text, {"a": "a-secret-value"})
    assert "a-secret-value" not in caught.value.message + caught.value.hint


def app(*items, substitute_from=(), **substitute):
    build = {"substitute": substitute, "substituteFrom": list(substitute_from)}
    stage = {"name": "app", "sourceRef": {"name": "app"}, "postBuild": build}
    return Outcome(at("stageset.yaml", stage_set(stage)), *items, KEY)


def test_a_value_without_quotes_may_become_a_number_but_not_where_strings_belong():
    text = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels:
    n: $N
  annotations:
    internal.config.kubernetes.io/path: app/web.yaml
spec:
  plain: $N
  quoted: "$N"
  part: a$N
  block: |
    $N
  list:
    - 1
    - $N
  none: $E
""".replace("$N", "${n}").replace("$E", "${e}")
    done = app(text, n="3", e="")
    assert done.errors() == []
    spec = done.item("web")["spec"]
    assert spec == {"plain": 3, "quoted": "3", "part": "a3", "block": "3\n", "list": [1, 3], "none": None}
    assert done.item("web")["metadata"]["labels"] == {"n": "3"}


def test_what_is_put_in_stays_one_value():
    """S32: no text can begin another field, a document or an alias."""
    evil = "x\nevil: 1\n---\n*a: &b {c}"
    done = app(at("app/a.yaml", config_map("a", one="${v}", two="before ${v}")), v=evil)
    assert done.item("a")["data"] == {"one": evil, "two": f"before {evil}"}


def test_decrypted_values_are_not_looked_at():
    """S32."""
    done = app(
        at("app/db.yaml", secret(password="${v} $${v} ${none}")), at("app/a.yaml", config_map("a", x="${v}")), v="1"
    )
    assert done.errors() == []
    assert done.item("db")["stringData"] == {"password": "${v} $${v} ${none}"}
    assert done.item("a")["data"] == {"x": "1"}


def test_without_variables_nothing_is_substituted():
    item = at("app/a.yaml", config_map("a", x="${v} $${v}"))
    assert app(item).item("a")["data"] == item["data"]


@pytest.mark.parametrize("where", ["annotations", "labels"])
def test_an_item_can_opt_out(where):
    item = at("app/a.yaml", config_map("a", x="${v}"))
    item["metadata"].setdefault(where, {})["kustomize.toolkit.fluxcd.io/substitute"] = "disabled"
    assert app(item, v="1").item("a")["data"] == {"x": "${v}"}


def test_variables_come_from_objects_in_their_order_and_inline_ones_win():
    values = at("vars.yaml", config_map("vars", a="1", b="1", c="1"))
    more = at("app/more.yaml", secret("more", b="2", c="2"))
    refs = [{"kind": "ConfigMap", "name": "vars"}, {"kind": "Secret", "name": "more"}]
    refs.append({"kind": "Secret", "name": "none", "optional": True})
    done = app(values, more, at("app/a.yaml", config_map("a", x="${a}${b}${c}")), substitute_from=refs, c="3")
    assert done.errors() == []
    assert done.item("a")["data"] == {"x": "123"}


def test_variables_of_another_namespace_are_out_of_reach():
    """S32."""
    values = at("vars.yaml", config_map("vars", "other", a="1"))
    done = app(
        values, at("app/a.yaml", config_map("a", x="${a}")), substitute_from=[{"kind": "ConfigMap", "name": "vars"}]
    )
    assert "no ConfigMap 'vars' in the StageSet's namespace (shop) is here" in done.errors()[0]


def test_an_encrypted_secret_that_the_stageset_does_not_open_gives_no_variables():
    refs = [{"kind": "Secret", "name": "more"}]
    done = app(at("more.yaml", secret("more", b="2")), at("app/a.yaml", config_map("a")), substitute_from=refs)
    assert "is encrypted, and is in no stage of this StageSet" in done.errors()[0]


def test_a_wrong_name_of_a_variable_is_an_error():
    done = app(at("app/a.yaml", config_map("a")), **{"a-b": "1"})
    assert "has 'a-b'; a variable's name" in done.errors()[0]


def test_an_unset_variable_is_an_error_that_names_the_place():
    done = app(at("app/a.yaml", config_map("a", x="${nope}")), v="1")
    assert done.errors() == ["InvalidDocument: app/a.yaml: ConfigMap/shop/a: data.x: the variable nope is not set"]


def test_a_key_with_a_variable_stays_and_is_told():
    done = app(at("app/a.yaml", config_map("a", **{"${v}": "${v}"})), v="1")
    assert done.item("a")["data"] == {"${v}": "1"}
    assert [result.severity for result in done.results if "a key holds" in result.message] == ["warning"]
