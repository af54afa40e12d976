"""Every command in README, docs and help text does what it should on a real cluster.

In the documents they are the lines that start with `$ ` in blocks marked `console`, in help texts
the lines after `Examples:`. Names that differ from cluster to cluster are replaced; a command that
would go on for ever is interrupted once it has shown that it works.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.cli import main as command_line

from .command import Command, trace, wait_until

if TYPE_CHECKING:
    from .cluster import Cluster, Pod
    from .command import Result

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "docs" / "examples"
SAMPLE_ID = "83863f22-5178-4fe2-9da5-4e27eabab354"
BACKGROUND = 'interval:ms:200 { printf("tick\\n"); }'
ENDLESS = re.compile(
    r" -a\b(?!.*(exit\(\)|--deadline \ds|--max-records))| attach | -f .*--timestamps| get -w"
    r"| local "
    r"| calls (?!.*(--show-program|--deadline|pod/.* --max))"  # the pods' programs never rest
)


def in_documents() -> set[str]:
    texts = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    blocks = (
        block
        for text in texts
        for block in re.findall(
            r"^```console\n(.*?)^```", text.read_text(), re.MULTILINE | re.DOTALL
        )
    )
    return {line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")}


def in_help() -> set[str]:
    texts = [command_line.help_text()]
    for verb in command_line.VERBS:
        module = command_line.verb_module(verb)
        assert module is not None
        texts.append(module.parser().format_help())
    lines = (line.strip() for text in texts for line in text.partition("Examples:")[2].splitlines())
    return {line for line in lines if line.startswith(("kubectl", "sudo", "source"))}


def commands() -> list[str]:
    found = in_documents() | in_help()
    assert len(found) > 25
    return sorted(text for text in found if "--watch" not in text)  # it needs a terminal


def is_alone(text: str) -> bool:
    """Whether a command has to do with other traces than one that it starts itself."""
    return re.match(r"(sudo )?kubectl.trace (run|calls|functions) ", text) is None


def result_of(text: str, nginx: Pod, folder: Path, *, running: str = "") -> Result:
    """The end of a command; `running`: the ID of a trace that runs, in the place of the sample."""
    session = str(folder / "session")
    if " replay " in text:
        trace("run", nginx.node, "-a", "--save", session, "-e", "BEGIN { exit(); }")
    line = (
        re.sub(r"\S*nginx\.session\b", session, text)
        .replace(SAMPLE_ID, running)
        .replace("pod/nginx-0", f"pod/{nginx.name}")
        .replace("sudo ", "")
        .replace("--deadline 30s", "--deadline 3s")
        .replace("~/.config/fish/completions", str(folder))
    )
    run = "exec " if "<(" not in line and "|" not in line else ""
    place = REPOSITORY if "docs/examples/" in line else EXAMPLES
    command = Command("bash", "-c", f"cd '{place}' && {run}{line}")
    if ENDLESS.search(text):
        command.wait_for("NAMESPACE" if " get " in text else "tick" if running else "attached ")
        command.interrupt()
    return command.finish()


@pytest.fixture(scope="module")
def results(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Result | AssertionError]:
    """The ends of the commands that need not be alone, several at a time."""
    nginx = cluster.pods("app=nginx")[0]

    def end(text: str, folder: Path) -> Result | AssertionError:
        try:
            return result_of(text, nginx, folder)
        except AssertionError as error:
            return error

    texts = [text for text in commands() if not is_alone(text)]
    folders = [tmp_path_factory.mktemp("command") for _ in texts]
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(texts, pool.map(end, texts, folders), strict=True))


@pytest.mark.parametrize("text", [text for text in commands() if not is_alone(text)])
def test_a_documented_command_works(results: dict[str, Result | AssertionError], text: str) -> None:
    result = results[text]
    assert not isinstance(result, AssertionError), result
    assert result.code == 0, result


@pytest.mark.parametrize("text", [text for text in commands() if is_alone(text)])
def test_a_documented_command_about_traces_works(
    cluster: Cluster, nginx: Pod, tmp_path: Path, text: str
) -> None:
    running = trace("run", nginx.node, "-e", BACKGROUND).trace_id if SAMPLE_ID in text else ""
    if running:
        cluster.wait_for_phase(running, "Running")
        wait_until(lambda: "tick" in trace("logs", running).stdout, "the trace to speak")
    result = result_of(text, nginx, tmp_path, running=running)
    assert result.code == 0, result
