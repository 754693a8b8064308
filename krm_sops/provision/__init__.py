"""Where secrets come from: a specification that names a source for each, and the values that the sources give.

The form is that of opsops (vst/opsops 0.0.9, src/Opsops/Spec.hs), with more source types. Sources start programs, so
only a verb of the command line uses this package; no function can.
"""

from __future__ import annotations

from krm_sops.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.provision.base import Source

SOURCES: Registry[type[Source]] = Registry(
    **{
        "process": "krm_sops.provision.commands:Process",
        "script": "krm_sops.provision.commands:Script",
        "op": "krm_sops.provision.commands:Op",
        "op-read": "krm_sops.provision.commands:OpRead",
        "plugin": "krm_sops.provision.commands:Plugin",
        "env": "krm_sops.provision.taken:Variable",
        "file": "krm_sops.provision.taken:File",
        "sops": "krm_sops.provision.taken:EncryptedFile",
        "random": "krm_sops.provision.made:Random",
        "age-keypair": "krm_sops.provision.made:AgeKeyPair",
        "ssh-keypair": "krm_sops.provision.made:SshKeyPair",
    }
)
OF_OPSOPS = ("process", "script", "op", "op-read")
"""The types that opsops has. It passes over fields that it does not know; so does this, with a warning."""
