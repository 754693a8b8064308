"""``python -m krm_sops``."""

from krm_sops.cli import main_and_exit

import sys  # isort: skip

main_and_exit(["krm-sops", *sys.argv[1:]])
