"""A trace brought into the cluster: one runner a node, and more of them where its pods go."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace._version import __version__
from kubectl_trace.cli import limits
from kubectl_trace.cli.arguments import complain, note
from kubectl_trace.errors import Exit, NotFoundError, TraceError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.cli.follow import Interrupts
    from kubectl_trace.cli.tracing import Wrap
    from kubectl_trace.cli.view import View
    from kubectl_trace.kube.client import Object
    from kubectl_trace.kube.fleet import Fleet
    from kubectl_trace.kube.job import JobOptions
    from kubectl_trace.kube.placement import Placement
    from kubectl_trace.kube.resolve import Resolved
    from kubectl_trace.kube.target_events import TargetEvents
    from kubectl_trace.kube.targets import Targets
    from kubectl_trace.results.session import Writer
    from kubectl_trace.trace import Trace


def launch(
    arguments: argparse.Namespace,
    cluster: Cluster,
    targets: Targets,
    trace: Trace,
    wrap: Wrap | None = None,
) -> int:
    """Runs a trace in the cluster; the exit code.

    `wrap` makes the printer of its results another one.

    Raises:
        UsageError: it would run on too many nodes.
        TraceError: it could not be started.
    """
    from kubectl_trace.kube.resolve import resolve

    namespace = arguments.target_namespace or cluster.namespace
    resolved = resolve(cluster.client, targets, namespace)
    for text in resolved.notes:
        note(text)
    if trace.only_shows_program:
        # The same on each node, but for the files.
        resolved = dataclasses.replace(resolved, placements=resolved.placements[:1], selectors=())
    if not trace.traces:
        resolved = dataclasses.replace(resolved, selectors=())
    _ask(arguments, len(resolved.placements))
    if arguments.fetch_headers and "#include" not in trace.program:
        note("the program includes no headers: BTF says all that it needs, nothing is fetched")
        arguments.fetch_headers = False
    return _Launch(arguments, cluster, targets, trace, resolved, wrap).run()


def session(arguments: argparse.Namespace, targets: Targets, trace: Trace) -> Writer | None:
    """The file that the session is saved to, if the user wants one.

    Raises:
        UsageError: it can't be written.
    """
    if not arguments.save:
        return None
    from kubectl_trace.results.session import Header, create

    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return create(arguments.save, Header(__version__, trace.id, str(targets), created), note)


def shown(
    arguments: argparse.Namespace,
    interrupts: Interrupts,
    *,
    nodes: int,
    several: bool,
    saved: Writer | None,
    wrap: Wrap | None = None,
) -> View:
    """What the user sees of a trace that runs now."""
    from kubectl_trace.cli.printer import printer
    from kubectl_trace.cli.report import Report
    from kubectl_trace.cli.view import View

    report = Report(nodes, quiet=arguments.quiet)
    output = "watch" if arguments.watch else arguments.output
    shows = printer(output, report, by=arguments.by, several=several, stop=interrupts.interrupt)
    if wrap is not None:
        shows = wrap(shows, interrupts.enough)
    return View(shows, report, by=arguments.by, strict=arguments.strict, session=saved)


class _Launch:
    def __init__(
        self,
        arguments: argparse.Namespace,
        cluster: Cluster,
        targets: Targets,
        trace: Trace,
        resolved: Resolved,
        wrap: Wrap | None,
    ) -> None:
        self._arguments = arguments
        self._wrap = wrap
        self._cluster = cluster
        self._trace = trace
        self._targets = targets
        self._resolved = resolved
        self._options = _job_options(arguments, cluster, targets)
        self._patch = _patch_text(arguments.patch) if arguments.patch else ""
        self._begun = time.monotonic()
        self._too_many = False
        self._begun_on: set[str] = set()
        self._latest: Mapping[str, Placement] = {}
        self._events: TargetEvents | None = None

    def run(self) -> int:
        if self._arguments.dry_run == "client":
            objects = [each for placement in self._placements for each in self._objects(placement)]
            _print_objects(objects, self._arguments.output)
            return Exit.DONE
        if self._patch:
            self._objects(self._placements[0])  # a patch that does not apply is said at once
        at_once = False
        try:
            return self._follow() if self._trace.attached else self._detach()
        except KeyboardInterrupt:
            at_once = True
            raise
        finally:
            if self._events is not None:
                self._events.close(at_once=at_once)

    @property
    def _placements(self) -> tuple[Placement, ...]:
        return self._resolved.placements

    def _objects(self, placement: Placement) -> tuple[Object, Object]:
        """The Job of one node, and its ConfigMap."""
        from kubectl_trace.kube import job as jobs

        trace = self._trace_of(placement)
        manifest = jobs.job(trace, placement, self._options)
        if self._patch:
            from kubectl_trace.kube.patch import patched

            manifest = patched(manifest, self._patch, self._arguments.patch_type)
        return manifest, jobs.config_map(trace, manifest)

    def _trace_of(self, placement: Placement) -> Trace:
        """The trace as one node's runner is to know it; one that comes late ends with the others."""
        left = self._trace.deadline - int(time.monotonic() - self._begun)
        return msgspec.structs.replace(
            self._trace, containers=placement.containers, deadline=max(1.0, left)
        )

    def _create(self, placement: Placement) -> None:
        from kubectl_trace.kube import traces

        traces.create(self._cluster.client, *self._objects(placement))
        if self._events is not None:
            self._begun_on.add(placement.node)
            self._events.record(placement)
            if latest := self._latest.get(placement.node):  # they came while it was created
                self._events.record(latest)

    def _tell_targets(self, say: Callable[[str], None]) -> None:
        """Lets what is traced know it; a trace that only lists or shows sees nothing of it."""
        from kubectl_trace.kube.target_events import TargetEvents

        if self._trace.traces:
            self._events = TargetEvents(self._cluster.client, self._trace, self._options, say)

    def _name(self, placement: Placement) -> str:
        from kubectl_trace.kube import job as jobs

        return jobs.name_of(self._trace.id, placement.node if self._trace.merge else "")

    def _detach(self) -> int:
        """Creates the runners and leaves them alone."""
        from kubectl_trace.kube.fleet import AT_ONCE

        self._tell_targets(note)
        errors: dict[str, TraceError] = {}

        def create(placement: Placement) -> None:
            try:
                self._create(placement)
            except TraceError as error:
                errors[placement.node] = error

        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            list(pool.map(create, self._placements))
        except BaseException:  # Ctrl-C
            pool.shutdown(cancel_futures=True)
            self._take_back()
            raise
        pool.shutdown()
        if len(errors) == len(self._placements):
            raise next(iter(errors.values()))
        for node, error in errors.items():
            complain(f"{node}: not started: {error}")
        if errors and self._arguments.require_all:
            self._take_back()
            return int(next(iter(errors.values())).code)
        print(f"trace {self._trace.id} created")
        if self._resolved.selectors:
            note("pods that come later are seen only while a client follows: run -a")
        return Exit.DONE

    def _follow(self) -> int:
        """Creates the runners and follows them to their end."""
        from kubectl_trace.cli.follow import PATIENCE, Interrupts, follow
        from kubectl_trace.kube.fleet import Fleet

        nodes = len(self._placements)
        containers = sum(len(placement.containers) for placement in self._placements)
        with Interrupts(owned=True) as interrupts:
            saved = session(self._arguments, self._targets, self._trace)
            self._view = shown(
                self._arguments,
                interrupts,
                nodes=nodes,
                several=nodes > 1 or containers > 1,
                saved=saved,
                wrap=self._wrap,
            )
            fleet = Fleet(
                self._cluster.client,
                self._cluster.namespace,
                self._trace.id,
                timeout=self._arguments.timeout,
                longest=self._trace.deadline + self._trace.grace + PATIENCE,
                owned=True,
                begin=self._begin,
                own=self._cluster.own,
            )
            try:
                return follow(
                    fleet,
                    self._view,
                    interrupts,
                    grace=self._trace.grace,
                    require_all=self._arguments.require_all,
                )
            except TraceError:
                if self._arguments.require_all:
                    self._take_back()
                raise
            finally:
                if not self._trace.traces:
                    self._take_back()

    def _begin(self, fleet: Fleet) -> None:
        from kubectl_trace.kube.growth import Growth

        self._tell_targets(fleet.say)
        self._start(fleet, self._placements)
        if self._resolved.selectors:
            growth = Growth(self._cluster.client, self._resolved)
            growth.start(
                lambda placements: self._on_change(fleet, placements), lambda text: fleet.say(text)
            )

    def _start(self, fleet: Fleet, placements: tuple[Placement, ...]) -> None:
        fleet.launch({self._name(each): each for each in placements}, self._create)

    def _on_change(self, fleet: Fleet, placements: dict[str, Placement]) -> None:
        """The target's pods have come or gone: they join, they leave, new nodes get runners."""
        self._latest = placements
        new = tuple(
            dataclasses.replace(each, containers=running)
            for each in fleet.update(placements)
            if (running := tuple(one for one in each.containers if one.container_id))
        )
        room = self._most_nodes() - len(fleet.nodes)
        if new[max(0, room) :] and not self._too_many:
            self._too_many = True
            fleet.say(
                f"pods on {', '.join(each.node for each in new[max(0, room) :])} are not traced: "
                f"more than --max-nodes {self._arguments.max_nodes}"
            )
        if new := new[: max(0, room)]:
            for each in new:
                pods = ", ".join(dict.fromkeys(container.pod for container in each.containers))
                fleet.say(f"{pods} on {each.node} joins: starting a runner there")
            self._start(fleet, new)
            fleet.update(placements)
        if self._events is not None:
            for node in self._begun_on & placements.keys():
                self._events.record(placements[node])

    def _most_nodes(self) -> int:
        return max(int(self._arguments.max_nodes), len(self._placements))

    def _take_back(self) -> None:
        from kubectl_trace.kube import traces

        client, namespace = self._cluster.client, self._cluster.namespace
        try:
            traces.delete(client, traces.find(client, namespace, self._trace.id), now=True)
        except NotFoundError:
            return
        except TraceError as error:
            note(f"the trace's objects are still there: {error}")


def _ask(arguments: argparse.Namespace, nodes: int) -> None:
    """Asks before a trace runs on more nodes than the user may have thought of.

    Raises:
        UsageError: the answer is no, or there is nobody to ask.
    """
    if nodes <= arguments.max_nodes or arguments.yes or arguments.dry_run == "client":
        return
    text = f"the targets are on {nodes} nodes, more than --max-nodes {arguments.max_nodes}"
    if sys.stdin.isatty() and sys.stderr.isatty() and arguments.filename != "-":
        sys.stderr.write(f"{text}; go on? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
    raise UsageError(f"{text}: raise it, choose fewer, or say --yes")


def _job_options(arguments: argparse.Namespace, cluster: Cluster, targets: Targets) -> JobOptions:
    from kubectl_trace.kube.job import JobOptions

    return JobOptions(
        namespace=cluster.namespace,
        target=str(targets),
        owner=cluster.user or os.environ.get("USER", ""),
        reason=arguments.reason,
        service_account=arguments.serviceaccount,
        image=arguments.imagename,
        init_image=arguments.init_imagename or arguments.imagename,
        image_pull_policy=arguments.image_pull_policy,
        image_pull_secret=arguments.image_pull_secret,
        timeout=int(arguments.timeout),
        ttl=int(arguments.ttl),
        fetch_headers=arguments.fetch_headers,
        headers_mirror=arguments.headers_mirror,
        privileged=arguments.privileged,
        statistics=limits.needs_statistics(arguments),
    )


def _patch_text(file: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--patch {file}: {error}") from error


def _print_objects(objects: list[Object], output_format: str) -> None:
    if output_format == "json":
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        from kubectl_trace.results.terminal import escape_json

        text = msgspec.json.format(msgspec.json.encode(listed), indent=4).decode()
        print(escape_json(text) if sys.stdout.isatty() else text)
        return
    import yaml

    # Copied, so that what two of them share is written twice, not as a reference.
    apart = [msgspec.json.decode(msgspec.json.encode(each)) for each in objects]
    yaml.safe_dump_all(apart, sys.stdout, sort_keys=False)
