"""Whether what is decrypted under ``kpt fn render`` is encrypted again before kpt writes it: what the Kptfile says.

This is a guard against mistakes. Who writes the Kptfile may also write `allowPlaintext`.
Source: kptdev/kpt, internal/util/render/executor.go, pkg/api/kptfile/v1.
"""

from __future__ import annotations

from krm_sops.functions import GROUP_VERSION
from krm_sops.krm.item import PACKAGE_PATH
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.functions import Given
    from krm_sops.krm.item import Item

SAVE_ON_FAILURE = "kpt.dev/save-on-render-failure"
_CONDITIONAL = ("selectors", "exclude", "condition")
"""Fields of a function in a pipeline with which it may not see every item, or not run."""


def is_encrypted_again(given: Given) -> bool:
    """Whether a later mutator of the same pipeline is a SopsEncrypt that sees everything, whatever fails in between."""
    config = given.config
    assert config is not None
    files = [item for item in given.of_kind("Kptfile") if item.field("apiVersion").startswith("kpt.dev/")]
    if any(item.annotation(SAVE_ON_FAILURE).lower() not in ("", "false") for item in files):
        return False
    package = config.annotation(PACKAGE_PATH)
    own = [item for item in files if item.annotation(PACKAGE_PATH) == package and item.file == "Kptfile"]
    pipeline = own[0].branch.get("pipeline") if len(own) == 1 else None
    mutators = pipeline.get("mutators") if isinstance(pipeline, Branch) else None
    functions = [one for one in mutators if isinstance(one, Branch)] if isinstance(mutators, list) else []
    paths = [_path(one) for one in functions]
    if not config.file or config.file not in paths:
        return False
    last = len(paths) - 1 - paths[::-1].index(config.file)
    later = [path for one, path in zip(functions[last + 1 :], paths[last + 1 :], strict=True) if not _is_partial(one)]
    encrypting = [item for item in given.of_kind("SopsEncrypt") if _is_for(item, package, config.namespace)]
    return any(item.file in later for item in encrypting)


def _path(function: Branch) -> str:
    path = function.get("configPath")
    return path.removeprefix("./") if isinstance(path, str) else ""


def _is_partial(function: Branch) -> bool:
    return any(function.get(name) for name in _CONDITIONAL)


def _is_for(item: Item, package: str, namespace: str) -> bool:
    """Whether it is a SopsEncrypt of this package that encrypts what a config in `namespace` decrypts."""
    return (
        item.field("apiVersion") == GROUP_VERSION
        and item.annotation(PACKAGE_PATH) == package
        and item.namespace in ("", namespace)
    )
