"""The verbs of the command line, one file each. They exit with the numbers that sops uses."""
