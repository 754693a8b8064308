#!/bin/sh
# To stdout: the Secret as it is after the package was rendered in place, decrypted. It is rendered in a copy, where it
# can be looked at: nothing in there is plain.
set -eu
cd "$(dirname "$0")"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R . "$copy"
mv "$copy/Kptfile.example" "$copy/Kptfile"
export SOPS_AGE_KEY_FILE="$PWD/key.txt"
cd "$copy"
kpt fn render --allow-exec >&2
diff "$OLDPWD/database.enc.yaml" database.enc.yaml >&2 || true
krm-sops decrypt database.enc.yaml
