"""How many processes may work beside each other on this machine, by its CPUs and its memory."""

from embed_foundry.cpus import available_cpus, control_groups, read_text


def count_processes(bytes_each: int) -> int:
    """Return as many processes as this process may use CPUs, fewer if they would not fit in memory; at least 1.

    Args:
        bytes_each: memory that one process needs.
    """
    return max(1, min(available_cpus(), available_bytes() // max(1, bytes_each)))


def available_bytes() -> int:
    """Return the memory that new processes may take, within the machine and this process's container."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for group in control_groups("memory"):
        for limit_name, usage_name in (
            ("memory.max", "memory.current"),  # control groups of version 2, then 1
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = read_text(group / limit_name), read_text(group / usage_name)
            if limit and usage and limit.isdigit():  # "max" is no limit
                free = min(free, int(limit) - int(usage))
    return max(0, free)
