#!/bin/sh
# To stdout: the build, once the gate has let it pass.
cd "$(dirname "$0")" || exit 1
build=$(SOPS_AGE_KEY_FILE=key.txt kustomize build --enable-alpha-plugins --enable-exec .) || exit
printf '%s\n' "$build" | krm-sops check - >/dev/null && printf '%s\n' "$build"
