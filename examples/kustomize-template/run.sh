#!/bin/sh
# To stdout: the build.
cd "$(dirname "$0")" || exit 1
SOPS_AGE_KEY_FILE=key.txt kustomize build --enable-alpha-plugins --enable-exec .
