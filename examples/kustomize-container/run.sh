#!/bin/sh
# To stdout: the build.
cd "$(dirname "$0")" || exit 1
exec kubectl kustomize --enable-alpha-plugins --mount "type=bind,src=$PWD/keys,dst=/keys" .
