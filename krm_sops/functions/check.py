"""SopsCheck: the gate among functions. Items stay as they are; each finding is an error, and the build fails.

Always with the exact reader of the list (S17). Unlike the verb it sees objects, not files: no `.sops.yaml` counts.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError
from krm_sops.functions import Answer
from krm_sops.gate import EXPECTATIONS
from krm_sops.gate.judge import Gate
from krm_sops.krm.config import Fields
from krm_sops.krm.results import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.functions import Given
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.policy import Policy

SPEC = ("expect", "allowDisabled")


def run(given: Given, host: Host, policy: Policy | None) -> Answer:  # noqa: ARG001 (it opens nothing)
    """Raises ConfigError, NotPlainError."""
    config = given.config
    assert config is not None
    expect, allow_disabled = _options(config)
    gate = Gate(expect, given.limits, allow_disabled=allow_disabled)
    answer = Answer()
    for item, finding in gate.items(given.items):
        answer.results.append(
            Result(finding.severity, finding.rule, finding.message, hint=finding.hint, item=item, field=finding.field)
        )
    return answer


def _options(config: Item) -> tuple[str, bool]:
    Fields(config.branch, "functionConfig", ("apiVersion", "kind", "metadata", "spec"))
    spec = Fields(config.branch.get("spec"), "spec", SPEC)
    if not spec.has("expect"):
        raise ConfigError(f"spec.expect is missing; allowed: {', '.join(EXPECTATIONS)}", path=("spec", "expect"))
    return spec.choice("expect", EXPECTATIONS, ""), spec.flag("allowDisabled")
