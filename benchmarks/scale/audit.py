"""What the API server's audit log says of calls."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def calls(log: Path) -> Counter[str]:
    """The calls in a log of finished ones, by verb and resource, such as `create jobs`.

    https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
    """
    found: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        event = json.loads(line)
        about = event.get("objectRef", {})
        resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
        found[f"{event['verb']} {resource or event['requestURI']}"] += 1
    return found
