#!/bin/sh
# To stdout: the Secret, decrypted.
cd "$(dirname "$0")" || exit 1
exec krm-sops decrypt secret.enc.yaml --key-file key.txt
