"""The runner image, named in one place; its tag is the package's version."""

from kubectl_trace._version import __version__

IMAGE = "kubectl-trace/runner:" + __version__
