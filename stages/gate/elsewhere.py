"""Whether latency was measured on the kind of host that the target is."""

from collections.abc import Iterator

from stages.common.config import Host
from stages.common.records.latency import LatencyReport


def find_differences(host: Host, latency: LatencyReport) -> Iterator[str]:
    """Yield how the measuring machine differs from the target's kind of host: architecture, system, what computes."""
    machine = latency.machine
    for expected, actual in ((host.arch, machine.arch), (host.system, machine.os)):
        if expected is not None and expected != actual:
            yield f"the target is {expected}, measured was {actual}"
    missing = [name for name in host.providers if name not in latency.providers]
    if missing:
        yield f"the target computes on {', '.join(missing)}, measured was {', '.join(latency.providers)}"
