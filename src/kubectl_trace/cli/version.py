"""`kubectl trace version`: client, runner image, kubectl and cluster."""

from __future__ import annotations

from kubectl_trace._version import __version__
from kubectl_trace.cli.arguments import verb_parser
from kubectl_trace.errors import Exit, TraceError
from kubectl_trace.image import IMAGE

TYPE_CHECKING = False  # typing itself would be a tenth of a short verb's time
if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser

_EXAMPLES = """\
  kubectl trace version
  kubectl trace version -o json
  # without asking the cluster
  kubectl trace version --client
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "version",
        "Print the versions of this client, of the runner image it uses, and of the cluster.",
        _EXAMPLES,
        "[--client] [-o json] [flags]",
    )
    result.add_argument("--client", action="store_true", help="do not ask the cluster")
    result.add_argument("-o", "--output", default="text", choices=["text", "json"])
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    versions = {"client": f"v{__version__}", "image": IMAGE}
    if not arguments.client:
        versions["server"] = _server(arguments)
    if arguments.output == "json":
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(versions)).decode())
        return Exit.DONE
    for name, version in versions.items():
        print(f"{name + ':':<8} {version}")
    return Exit.DONE


def _server(arguments: argparse.Namespace) -> str:
    from kubectl_trace.cli.cluster import Cluster

    try:
        with Cluster(arguments) as cluster:
            return str(cluster.client.get("/version")["gitVersion"])
    except TraceError as error:
        return f"unknown ({error})"
