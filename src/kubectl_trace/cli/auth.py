"""`kubectl trace auth can-i`: which rights tracing a target needs, and which are missing."""

from __future__ import annotations

import os
import sys

from kubectl_trace.cli import limits, tracing
from kubectl_trace.cli.arguments import complain, verb_parser
from kubectl_trace.errors import Exit, ForbiddenError, NotFoundError
from kubectl_trace.image import IMAGE

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.kube.access import Admission, Answer
    from kubectl_trace.kube.client import Object
    from kubectl_trace.kube.targets import Targets

_EXAMPLES = """\
  # may I trace the pods of this Deployment? What is missing is printed as RBAC rules
  kubectl trace auth can-i deploy/nginx
  # a node, with the traces' own objects in another namespace
  kubectl trace auth can-i node/node-a -n default
  # is a runner admitted that may switch on the kernel's statistics?
  kubectl trace auth can-i node/node-a --stats
  # for a script
  kubectl trace auth can-i pod/nginx-0 -o json
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "auth",
        "Say whether a target can be traced: the rights that are there and those that are missing, what\n"
        "each is for, and the RBAC rules that grant the missing ones. Without an optional right tracing\n"
        "works, and what is lost is told. Also whether the namespace of the traces admits a runner, as\n"
        "far as that can be known. Nothing is created. Exit code 4: a needed right is missing.",
        _EXAMPLES,
        "can-i TARGET... [flags]",
    )
    add = result.add_argument
    add("question", metavar="can-i", choices=["can-i"], help="the one question there is")
    add("targets", metavar="TARGET", nargs="*", help="what is to be traced; docs/targets.md")
    add("-o", "--output", default="text", choices=["text", "json"], help="how to answer")
    add = tracing.selection_flags(result)
    add("--target-namespace", default="", help="the target's namespace; the Job goes to -n")
    add = result.add_argument_group("the runner, for its admission").add_argument
    add("--imagename", default=IMAGE, metavar="IMAGE", help="the runner image (%(default)s)")
    add(
        "--init-imagename", default="", metavar="IMAGE", help="image of the headers' init container"
    )
    add("--serviceaccount", default="default", help="its service account")
    add("--fetch-headers", action="store_true", help="it brings kernel headers")
    tracing.mirror_flag(add)
    add("--privileged", action="store_true", help="it is privileged")
    add("--stats", action="store_true", help="it gets CAP_SYS_ADMIN, too")
    add("--max-overhead", default=None, metavar="PERCENT", help="the same, unless it is none")
    add("--memory", default="", metavar="QUANTITY", help="its limit (1Gi)")
    add("--cpu", default="", metavar="QUANTITY", help="its limit (1)")
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    with tracing.connection(arguments) as cluster:
        targets = tracing.targets(arguments)
        if cluster is None:
            return _local(arguments, targets)
        return _ask(arguments, cluster, targets, runner(arguments, cluster.namespace))


def _local(arguments: argparse.Namespace, targets: Targets) -> int:
    is_root = os.geteuid() == 0
    if arguments.output == "json":
        _print_json({"target": str(targets), "allowed": is_root, "rights": [], "missing": []})
    else:
        print(f"{targets} needs no right in a cluster, but root on this machine")
    return Exit.DONE if is_root else Exit.FORBIDDEN


def _ask(arguments: argparse.Namespace, cluster: Cluster, targets: Targets, runner: Object) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from kubectl_trace.kube import access, rights

    namespace = arguments.target_namespace or cluster.namespace
    asked = rights.for_targets(targets, namespace, cluster.namespace)
    with ThreadPoolExecutor(3) as pool:
        answering = pool.submit(access.answers, cluster.client, asked)
        resolving = pool.submit(_resolved, cluster, targets, namespace)
        admitting = pool.submit(access.admission, cluster.client, runner)
        answers, admission = answering.result(), admitting.result()
        found = resolving.result()
    missing = [each for each in answers if not each.allowed]
    is_refused = admission.admits is False
    allowed = not (is_refused or any(each.right.is_needed for each in missing))
    if arguments.output == "json":
        _print_json(
            {
                "target": str(targets),
                "targetNamespace": namespace,
                "namespace": cluster.namespace,
                "found": None if isinstance(found, ForbiddenError) else found is None,
                "allowed": allowed,
                "rights": [_as_json(each) for each in answers],
                "missing": _granting(missing),
                "admission": {"admits": admission.admits, "message": admission.text},
            }
        )
    else:
        _print_table(answers)
        _print_admission(cluster.namespace, admission)
        _print_rules(missing)
    sys.stdout.flush()
    if isinstance(found, NotFoundError):
        complain(str(found))
        return found.code
    return Exit.DONE if allowed else Exit.FORBIDDEN


def _resolved(
    cluster: Cluster, targets: Targets, namespace: str
) -> NotFoundError | ForbiddenError | None:
    """Why the targets are not known to be there; None: they are."""
    from kubectl_trace.kube.resolve import resolve

    try:
        resolve(cluster.client, targets, namespace)
    except (NotFoundError, ForbiddenError) as error:
        return error
    return None


def runner(arguments: argparse.Namespace, namespace: str) -> Object:
    """A Job as `run` would create it with the same flags, for a node that need not be there.

    Raises:
        UsageError: a flag means nothing.
    """
    import uuid

    from kubectl_trace.kube import job as jobs
    from kubectl_trace.kube.placement import Placement
    from kubectl_trace.trace import Trace

    options = jobs.JobOptions(
        namespace=namespace,
        target="",
        service_account=arguments.serviceaccount,
        image=arguments.imagename,
        init_image=arguments.init_imagename or arguments.imagename,
        fetch_headers=arguments.fetch_headers,
        headers_mirror=arguments.headers_mirror,
        privileged=arguments.privileged,
        statistics=limits.needs_statistics(arguments),
    )
    resources = limits.resources(arguments)
    trace = Trace(id=str(uuid.uuid4()), program="", limits=resources)
    return jobs.job(trace, Placement("any"), options)


def _as_json(answer: Answer) -> dict[str, Any]:
    right = answer.right
    return {
        "group": right.group,
        "resource": right.resource,
        "verb": right.verb,
        "namespace": answer.namespace,
        "allowed": answer.allowed,
        "needed": right.is_needed,
        "for": right.purpose,
        "neededBy": right.needed_by,
        "lost": right.lost,
    }


def _granting(missing: Sequence[Answer]) -> list[dict[str, Any]]:
    """The rules that grant what is missing, by namespace; needed ones and optional ones apart."""
    from kubectl_trace.kube import rights

    found = []
    for namespace in dict.fromkeys(each.namespace for each in missing):
        here = [each.right for each in missing if each.namespace == namespace]
        for needed in (True, False):
            if chosen := [right for right in here if right.is_needed == needed]:
                lost = [] if needed else [right.lost for right in chosen]
                found.append(
                    {
                        "namespace": namespace,
                        "needed": needed,
                        "lost": list(dict.fromkeys(lost)),
                        "rules": rights.rules(chosen),
                    }
                )
    return found


def _print_table(answers: Sequence[Answer]) -> None:
    rows = [("RIGHT", "NAMESPACE", "ALLOWED", "FOR")]
    for each in answers:
        no = "no" if each.right.is_needed else "no (optional)"
        allowed = "yes" if each.allowed else no
        rows.append((str(each.right), each.namespace or "*", allowed, each.right.purpose))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("   ".join([*cells, row[-1]]))


def _print_admission(namespace: str, admission: Admission) -> None:
    from kubectl_trace.results.terminal import escape

    word = {True: "yes", False: "no", None: "?"}[admission.admits]
    print(f"\nnamespace {namespace} admits the runner: {word} ({escape(admission.text)})")


def _print_rules(missing: Sequence[Answer]) -> None:
    from kubectl_trace.kube import rights

    for each in _granting(missing):
        where = (
            f"namespace {each['namespace']} (a Role or ClusterRole, and a RoleBinding there)"
            if each["namespace"]
            else "the whole cluster (a ClusterRole and a ClusterRoleBinding)"
        )
        print(f"\n# {'missing' if each['needed'] else 'optional'} in {where}:")
        for lost in each["lost"]:
            print(f"# without: {lost}")
        print("rules:")
        for rule in each["rules"]:
            print(rights.rule_text(rule))


def _print_json(value: dict[str, Any]) -> None:
    import msgspec

    from kubectl_trace.results.terminal import escape_json

    text = msgspec.json.format(msgspec.json.encode(value)).decode()
    print(escape_json(text) if sys.stdout.isatty() else text)
