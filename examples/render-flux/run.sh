#!/bin/sh
# To stdout: what Flux would apply, where kustomize build alone would leave it encrypted.
cd "$(dirname "$0")" || exit 1
krm-sops render --key-file key.txt clusters/production
