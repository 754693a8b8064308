"""krm-sops: decrypt SOPS documents as a KRM function, a manifest filter and a command."""

__version__ = "0.1.0"
