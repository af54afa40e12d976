"""An API server's part in admission: a ValidatingAdmissionPolicy's CEL on a pod.

The expressions are evaluated by a CEL library, as an API server of Kubernetes 1.30 or later would
by its own: variables in their order, then each validation. What is a server's alone (the schema's
types, costs) is not checked here.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cel
import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubectl_trace.kube.client import Object

FOLDER = Path(__file__).parents[3] / "deploy" / "admission"


class Policy:
    """A ValidatingAdmissionPolicy."""

    def __init__(self, path: Path) -> None:
        self.manifest, self.binding = yaml.safe_load_all(path.read_text())
        self._spec = self.manifest["spec"]

    def refuses(
        self, pod: Object, old: Object | None = None, variables: Mapping[str, str] | None = None
    ) -> list[str]:
        """The messages of what does not hold; none: the pod is admitted.

        `variables`: expressions in the place of the policy's own.
        """
        names: dict[str, Any] = {}
        known = {
            "object": pod,
            "oldObject": old,
            "request": {"operation": "UPDATE" if old else "CREATE"},
            "variables": names,
        }
        if not all(
            cel.evaluate(each["expression"], known) for each in self._spec["matchConditions"]
        ):
            return []
        for each in self._spec["variables"]:
            text = (variables or {}).get(each["name"], each["expression"])
            names[each["name"]] = cel.evaluate(text, known)
        return [
            each["message"]
            for each in self._spec["validations"]
            if not cel.evaluate(each["expression"], known)
        ]


def pod_of(job: Object) -> Object:
    """The pod as the Job controller would create it, with what an API server fills in."""
    template = copy.deepcopy(job["spec"]["template"])
    spec = template["spec"]
    for container in (*spec["containers"], *spec.get("initContainers", [])):
        container["terminationMessagePath"] = "/dev/termination-log"
        container["terminationMessagePolicy"] = "File"
    for volume in spec["volumes"]:
        if "configMap" in volume:
            volume["configMap"]["defaultMode"] = 420
        if "hostPath" in volume:
            volume["hostPath"]["type"] = ""
    spec |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "priority": 0}
    spec["securityContext"] = {}
    return {"apiVersion": "v1", "kind": "Pod", **template}
