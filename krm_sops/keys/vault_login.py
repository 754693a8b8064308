"""Logging in to a Vault with the service account token of a Kubernetes workload, as Flux does.

KRM_SOPS_VAULT_LOGIN names a file of the operator's, in the form of Flux's ``--sops-vault-configmap``; its addresses
are an allow-list, its last three fields are ours::

    instances:
      - address: https://vault.example.com:8200
        loginPath: auth/kubernetes/login     # any method that takes a role and a jwt
        role: apps_sops                      # default: NAMESPACE_SERVICEACCOUNT, as the token says them
        audience: vault                      # default: the address
        tokenFile: /var/run/secrets/vault    # default: the pod's own token

A token for another audience is not sent: whoever received it could use it there.
"""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, KrmSopsError, shown
from krm_sops.keys.cloud import base64url_decoded, text_at
from krm_sops.keys.hc_vault import checked_path, origin_of
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from krm_sops.host import Host
    from krm_sops.keys.hc_vault import Server
    from krm_sops.tree import Node

_POD_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 (a path)
_FIELDS = ("address", "loginPath", "role", "audience", "tokenFile")


def read(host: Host, path: str) -> dict[str, Login]:
    """The logins of the operator's file by server (`origin_of`). Raises KeyUnavailable."""
    from krm_sops.limits import FUNCTION
    from krm_sops.yamlio import read as read_yaml

    what = f"KRM_SOPS_VAULT_LOGIN {shown(path)}"
    try:
        root = read_yaml(host.read(path, 1 << 20).decode(), FUNCTION, 10_000).root
    except OSError as error:
        raise KeyUnavailable(f"{what}: {error.strerror}") from None
    except (KrmSopsError, ValueError) as error:
        raise KeyUnavailable(f"{what}: {shown(error)}") from None
    if not isinstance(root, Branch) or root.keys() != ["instances"] or not isinstance(root.get("instances"), list):
        raise KeyUnavailable(f"{what}: it holds a list `instances`, and nothing else")
    found = {}
    for number, instance in enumerate(_list(root.get("instances"))):
        login = Login(_texts(instance, f"{what}: instances[{number}]"), f"{what}: instances[{number}]")
        found[login.server] = login
    return found


def _list(node: Node) -> list[Node]:
    return node if isinstance(node, list) else []


def _texts(node: Node, what: str) -> dict[str, str]:
    if not isinstance(node, Branch):
        raise KeyUnavailable(f"{what} is no mapping")
    found = {}
    for entry in node.entries:
        if entry.key not in _FIELDS or not isinstance(entry.value, str) or not entry.value:
            raise KeyUnavailable(f"{what}: {shown(entry.key, 60)!r} is none of the texts {', '.join(_FIELDS)}")
        found[str(entry.key)] = entry.value
    return found


class Login:
    """One instance of the file. Raises KeyUnavailable where a field is missing or wrong."""

    __slots__ = ("_audience", "_path", "_role", "_token_file", "label", "server")

    def __init__(self, fields: dict[str, str], what: str) -> None:
        self.server = origin_of(fields.get("address", ""))
        if not self.server:
            raise KeyUnavailable(f"{what}: address is no https://host[:port]")
        self._path = checked_path(fields.get("loginPath", "").strip("/"))
        self._role = fields.get("role", "")
        self._audience = fields.get("audience") or fields["address"]
        self._token_file = fields.get("tokenFile", _POD_TOKEN)
        self.label = f"a login at {self._path}"

    def token(self, server: Server, host: Host) -> str:
        """A Vault token for the workload. Raises KeyUnavailable."""
        place = f"the service account token {shown(self._token_file)}"
        try:
            jwt = host.read(self._token_file, 1 << 16).strip().decode("ascii", "replace")
        except OSError as error:
            raise KeyUnavailable(
                f"{place}: {error.strerror}",
                hint="project a service account token into the pod, see docs/keys-vault.md",
            ) from None
        claims = _claims(jwt)
        audiences = claims.get("aud")
        if self._audience not in (audiences if isinstance(audiences, list) else [audiences]):
            raise KeyUnavailable(
                f"{place} is not for the audience {shown(self._audience)}, so it is not sent",
                hint="project one with this audience into the pod, or state `audience` in KRM_SOPS_VAULT_LOGIN",
            )
        role = self._role or _role_of(claims)
        if not role:
            raise KeyUnavailable(f"{place} names no service account, so `role` must be stated in KRM_SOPS_VAULT_LOGIN")
        token = text_at(server.ask(self._path, {"role": role, "jwt": jwt}), "auth", "client_token")
        if not token:
            raise KeyUnavailable("Vault: the answer to the login holds no token")
        return token


def _claims(jwt: str) -> dict[str, Any]:
    """What a token says of itself; an empty one where it is none. Not verified: that is for Vault to do."""
    import json

    parts = jwt.split(".")
    try:
        claims = json.loads(base64url_decoded(parts[1], "")) if len(parts) == 3 else {}
    except (KeyUnavailable, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _role_of(claims: dict[str, Any]) -> str:
    """``NAMESPACE_NAME``, from ``system:serviceaccount:NAMESPACE:NAME``."""
    subject = text_at(claims, "sub").split(":")
    return "_".join(subject[2:]) if len(subject) == 4 and subject[:2] == ["system", "serviceaccount"] else ""
