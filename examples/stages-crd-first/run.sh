#!/bin/sh
# To stdout: the rendered package. It is rendered in a copy: a Kptfile in here would be a subpackage of the repository's
# own Kptfile and be rendered with it.
set -eu
cd "$(dirname "$0")"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R . "$copy"
mv "$copy/Kptfile.example" "$copy/Kptfile"
kpt fn render "$copy" --allow-exec -o unwrap
