#!/bin/sh
# To stdout: the rendered package. All of it happens in a copy: a Kptfile in here would be a subpackage of the
# repository's own Kptfile and be rendered with it.
set -eu
cd "$(dirname "$0")"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R . "$copy"
mv "$copy/Kptfile.example" "$copy/Kptfile"
rm "$copy/key.txt" "$copy/expected.yaml" # which are no part of a package
export SOPS_AGE_KEY_FILE="$PWD/key.txt"
cd "$copy"
krm-sops provision --output shop-secrets/database.enc.yaml secrets.spec.yaml # makes only what is not there yet
krm-sops check >&2
kpt fn render --allow-exec -o unwrap
