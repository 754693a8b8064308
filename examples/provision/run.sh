#!/bin/sh
# To stdout: the build. What the specification names is in shop.env already, so that provision leaves it as it is.
cd "$(dirname "$0")" || exit 1
krm-sops provision --output shop.env secrets.spec.yaml || exit 1
SOPS_AGE_KEY_FILE=key.txt kustomize build --enable-alpha-plugins --enable-exec .
