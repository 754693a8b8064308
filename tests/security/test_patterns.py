"""Patterns of documents run in linear time, and mean what they mean in Go (S22)."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time

import pytest

from krm_sops.errors import MetadataError
from krm_sops.selection import LONGEST_PATTERN, compile_regex
from tests.security import made

EVIL = (
    "(a+)+$", "(a*)*$", "(a|a)*$", "(a|aa)+$", "(a|a?)+$", "(.*a){20}", "(.*a){25}$", "^(a+)+$", "^(a*)*b$",
    "(a?){50}a{50}", "(x+x+)+y", "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)b", ".*.*.*.*.*.*.*=.*",
    "^(([a-z])+.)+[A-Z]([a-z])+$", "(a|b|ab)*c", "([a-zA-Z]+)*$", "(a+){10}b", "((a+)+)+b", "(((a*)*)*)*b",
    "(a*){100}b", "^(\\w+\\s?)*$", "(\\w*)*!", "(\\d+)*!", "(\\D+)*!", "^(a|b)*(a|b)*(a|b)*c$", "(?:a+)+b",
    "(?i)(A+)+b", "(?s).*.*.*b", "(a{1,100}){1,10}b", "a{0,500}a{0,500}b", "(a|b)*a(a|b){10}c", "(ab|a|b)*?c",
    "a*a*a*a*a*a*a*a*a*a*a*a*b", "(.+)+\\.(.+)+x", "[a-z]*[a-z]*[a-z]*[0-9]", "(aa*)*b", "(a+a+)+b", "^(.+?)+$b",
    "(?:(?:a?)*)*b", "(a.|b.)*z", "(\\pL+)*1", "(\\p{Greek}|a)*b", "([^x]*)*x", "(a|\\w|.)*1", "(.{0,50}){10}b",
    "(a\\b)*b", "^a*$|^(a|b)*c", "(?:.*?,){11}P", "(\\S+\\s*)+=$", "((a|b)*|(b|c)*)*d",
)  # fmt: skip
LONG_KEYS = (
    "a" * 5000,
    "a" * 4999 + "!",
    "ab" * 2500,
    "aA" * 2500,
    "a," * 2500,
    "x" * 2500 + "=" * 2500,
    "\u03b1" * 5000,
)


def test_evil_patterns_are_linear():
    """S22: what takes a backtracking engine longer than the universe has lasted; all of them in two seconds of work."""
    assert len(EVIL) >= 50
    begin = time.process_time()
    for pattern in EVIL:
        search = compile_regex(pattern)
        for key in LONG_KEYS:
            search(key)
    assert time.process_time() - begin < 2


def test_evil_patterns_in_a_document_are_linear(program, tmp_path):
    """S22: a document with an evil pattern and a key of 5,000 characters, through the program."""
    for pattern in ("(a+)+$", "^(([a-z])+.)+[A-Z]([a-z])+$"):
        plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a" * 5000: "x"}}
        document = made.encrypted(plain, encrypted_regex=pattern)
        listed = {"kind": "ResourceList", "functionConfig": made.KEY_SECRET, "items": [document]}
        done = program(stdin=json.dumps(listed))
        assert done.returncode == 1  # the pattern says that other values are encrypted
        assert b"plain text where" in done.stderr
        path = tmp_path / "x.json"
        path.write_text(json.dumps(document))
        assert program("decrypt", path, env={"SOPS_AGE_KEY": made.IDENTITY}).returncode != 0


PIECES = (
    "a", "b", "data", "stringData", ".", ".*", "a+", "a*?", "[a-z]", "[^a]", "[[:alpha:]]", "[[:^digit:]]", "\\d",
    "\\D", "\\w", "\\W", "\\s", "\\b", "\\B", "^", "$", "\\A", "\\z", "(a|b)", "(?:a|b)", "(?P<n>a)", "(?<n>a)",
    "(?i)a", "(?i:DATA)", "(?s).", "(?m)^a$", "(?U)a+", "a{2}", "a{2,}", "a{1,3}", "a{,3}", "\\.", "\\-", "\\_",
    "\\/", "\\x61", "\\x{61}", "\\x{3b1}", "\\141", "\\pL", "\\p{L}", "\\PL", "\\p{Greek}", "\\p{^Greek}",
    "\\Qa.b\\E", "\\Qa", "\\a", "\\f", "\\t", "\\n", "\\r", "\\v", "", "|", "a|", "é", "☃", "😀", "[é]", "[☃-😀]",
    "[\\d\\-x]", "[]a]", "[a\\]]", "(?:)", "()", "_", "-", " ", "#", "=", "a**", "a++", "a?+", "**", "*", "+", "?",
    "(", ")", "[", "]", "{", "}", "a{", "a{1", "a{1,", "{1}", "a{1001}", "a{1000}", "a{2,1}", "(?=a)", "(?!a)",
    "(?<=a)", "(?>a)", "(a)\\1", "\\1", "\\k<n>", "\\C", "\\8", "\\c", "\\e", "\\h", "\\i", "\\Z", "\\G", "\\K",
    "\\R", "\\X", "\\u0061", "\\U", "\\N{x}", "[a", "[z-a]", "[[:x:]]", "[[.a.]]", "\\x", "\\x{110000}", "\\x{",
    "\\p", "\\p{", "\\p{Nope}", "(?", "(?P", "(?P<", "(?P<n", "(?P<n>", "(?P=n)", "(?#x)", "(?x)a b", "(?a)",
    "(?-i)a", "(?i-s)a", "(?^i)a", "\\", "\\\\", "\\\\C", "a\\", "((a)", "(a))", "(?P<n>a)(?P<n>b)",
    "(((a{100}){100}){100})",
)  # fmt: skip
TEXTS = (
    "", "a", "A", "b", "aa", "aaa", "data", "DATA", "stringData", "metadata", "name", "a.b", "a b", "a-b", "a_b",
    "a\nb", "\na\n", "é", "É", "☃", "😀", "α", "1", "\t", "\x07", "\x0b", "]", "[", "{1}", "a{,3}", "a{1", "=", "#x",
    "C", "\\", "/", "ſ", "K", "a\u0085", "٣", "x" * 50,
)  # fmt: skip
GO = """\
package main

import (
	"encoding/json"
	"os"
	"regexp"
)

func main() {
	var in struct{ Patterns, Texts []string }
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		panic(err)
	}
	out := make([][]bool, len(in.Patterns))
	for i, p := range in.Patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			continue
		}
		out[i] = make([]bool, len(in.Texts))
		for j, t := range in.Texts {
			out[i][j] = re.MatchString(t)
		}
	}
	json.NewEncoder(os.Stdout).Encode(out)
}
"""
REFUSED_ALTHOUGH_GO_COMPILES = ("(((a{100}){100}){100})",)
"""A program of a million steps: RE2 has a budget of memory."""


def patterns() -> list[str]:
    """Each piece alone, as a whole, and 150 times three of them together."""
    chance = random.Random(22)
    together = ["".join(chance.choices(PIECES[:70], k=3)) for _ in range(150)]
    names = [f"^({'|'.join(chance.choices(TEXTS[1:12], k=3))})$" for _ in range(20)]
    return [*PIECES, *(f"^{piece}$" for piece in PIECES[:70]), *together, *names]


@pytest.mark.skipif(not shutil.which("go"), reason="no go to compare regular expressions with")
def test_patterns_mean_what_they_mean_in_go(tmp_path):
    """S22: they compile both ways or neither, and match the same texts."""
    source = tmp_path / "main.go"
    source.write_text(GO)
    given = json.dumps({"Patterns": patterns(), "Texts": TEXTS})
    done = subprocess.run(["go", "run", source], input=given, capture_output=True, text=True, check=True)
    differing = []
    for pattern, expected in zip(patterns(), json.loads(done.stdout), strict=True):
        try:
            search = compile_regex(pattern)
            found: list[bool] | None = [search(text) for text in TEXTS]
        except MetadataError:
            found = None
        if found != expected and pattern.strip("^$") not in REFUSED_ALTHOUGH_GO_COMPILES:
            differing.append(
                (pattern, "refused" if found is None else "taken" if expected is None else "another match")
            )
    assert not differing


@pytest.mark.parametrize(
    "pattern", ["(", "(?=a)", "(a)\\1", "a**b(", "[z-a]", "\\C", "a{1001}", "\x00(", "x" * (LONGEST_PATTERN + 1)]
)
@pytest.mark.parametrize(
    "rule", ["encrypted_regex", "unencrypted_regex", "encrypted_comment_regex", "unencrypted_comment_regex"]
)
def test_a_pattern_that_does_not_compile_is_an_error(rule, pattern):
    """S22: sops takes it for one that matches nothing, which would leave all as it is, or take all for plain."""
    document = made.encrypted(**{"encrypted_regex": None, rule: pattern})
    output, results, status = made.function(made.resource_list(document))
    assert status == 1
    assert results[0].reason == "InvalidDocument"
    assert "regex" in results[0].message
    assert len(results[0].message) < 400
    assert "plain-of" not in output


def test_the_longest_pattern_is_a_thousand_characters():
    """S22"""
    assert compile_regex("a|" * 499 + "bc")("bc")
    for pattern in ("a|" * 500 + "b", "(" * 501 + ")" * 501, "[" + "ab" * 500 + "]"):
        with pytest.raises(MetadataError):
            compile_regex(pattern)
