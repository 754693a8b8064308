#!/bin/sh
# To stdout: the same list, its Secret decrypted.
cd "$(dirname "$0")" || exit 1
exec krm-sops <resource-list.yaml
