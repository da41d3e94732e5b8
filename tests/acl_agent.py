"""A real Consul agent with ACLs on, which refuses by default, and the policy of docs/operations.rst on it."""

from __future__ import annotations

import http.client
import itertools
import json
import pathlib
import uuid
from dataclasses import dataclass
from typing import Any

from .behaviour.tools import Consul
from .real_consul import RealConsul, version_of

__all__ = ["NODE", "AclConsul", "Token", "documented_policy", "documented_policy_of_another_datacenter"]

#: The agent's node.
NODE = "acl-1"

_PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "operations.rst"
_CONFIGURATION = 'acl {{ enabled = true default_policy = "deny" tokens {{ {option} = "{token}" }} }}'


def _documented(number: int) -> str:
    """One of the policies on the page."""
    block = _PAGE.read_text(encoding="utf-8").split(".. code-block:: text\n")[number]
    lines = [line for line in block.splitlines() if line.strip()]
    indent = len(lines[0]) - len(lines[0].lstrip())
    ours = itertools.takewhile(lambda line: len(line) - len(line.lstrip()) >= indent, lines)
    return "\n".join(line[indent:] for line in ours) + "\n"


def documented_policy(name: str, node: str) -> str:
    """The least policy that the documentation tells, for a Locker of this name on that node."""
    policy = _documented(1)
    assert policy.count('"resource-writer/"') == policy.count('"my-node"') == 1, policy
    return policy.replace("resource-writer/", f"{name}/").replace("my-node", node)


def documented_policy_of_another_datacenter() -> str:
    """The rules that a look-up of another datacenter's servers needs besides."""
    return _documented(2)


def _management_option(binary: str) -> str:
    """What the token with all rights is called in the configuration (from 1.11 on the second)."""
    major, minor = version_of(binary).split(".")[:2]
    return "master" if (int(major), int(minor)) < (1, 11) else "initial_management"


@dataclass(frozen=True)
class Token:
    """A token, and the policy that it has its rights of."""

    secret: str
    policy_id: str
    policy_name: str
    rules: str


class AclConsul(RealConsul):
    """One such agent, a server on its own.

    Attributes:
        management: the token with all rights.
    """

    def __init__(self, binary: str) -> None:
        self.management = str(uuid.uuid4())
        configuration = _CONFIGURATION.format(option=_management_option(binary), token=self.management)
        super().__init__(binary, extra=("-node", NODE, "-hcl", configuration))

    @property
    def consul(self) -> Consul:
        """Asks it with all rights."""
        return Consul(self.address, self.management)

    def _has_leader(self) -> bool:
        # The last: for a moment after the start its ACLs are not there yet.
        paths = ("/v1/status/leader", "/v1/health/state/passing", "/v1/acl/policies")
        try:
            answers = [self.consul.call("GET", path) for path in paths]
        except (OSError, http.client.HTTPException):
            return False
        return all(status == 200 and found for status, found in answers)

    def token(self, name: str) -> Token:
        """A token with the least rights that a Locker of this name needs."""
        policy = self._put("policy", Name=str(uuid.uuid4()), Rules=documented_policy(name, NODE))
        secret = str(uuid.uuid4())
        self.make_token(policy["ID"], secret)
        return Token(secret, policy["ID"], policy["Name"], policy["Rules"])

    def make_token(self, policy_id: str, secret: str) -> str:
        """A token with this secret, and the rights of a policy. Returns what `delete_token` calls it."""
        accessor: str = self._put("token", SecretID=secret, Policies=[{"ID": policy_id}])["AccessorID"]
        return accessor

    def delete_token(self, accessor: str) -> None:
        """Delete it. Requests that come from now on with it are refused."""
        assert self.consul.call("DELETE", f"/v1/acl/token/{accessor}") == (200, True)

    def change(self, token: Token, rules: str) -> None:
        """Give the policy of a token other rules. Requests that come from now on find them."""
        self._put(f"policy/{token.policy_id}", Name=token.policy_name, Rules=rules)

    def _put(self, path: str, **body: Any) -> Any:
        status, answer = self.consul.call("PUT", f"/v1/acl/{path}", json.dumps(body))
        assert status == 200, answer
        return answer
