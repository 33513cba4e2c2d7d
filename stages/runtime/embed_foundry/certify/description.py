"""A certificate in plain sentences."""

from .certificate import Certificate, VariantResult


def describe(certificate: Certificate) -> list[str]:
    """Return a certificate as lines: the host, then each variant with its figures."""
    host = certificate.host
    memory = "unknown memory" if host.memory_mb is None else f"{host.memory_mb} MB"
    lines = [f"host: {host.cpu or 'unknown CPU'}, {host.arch}, {host.system}, {host.cpus} CPUs, {memory}"]
    if host.crowded:
        lines.append(f"other processes kept {host.others_cpus:g} CPUs busy meanwhile: times may be too long")
    for name, result in certificate.variants.items():
        lines.append(f"{name:<20} {'; '.join(result.faults) if result.faults else 'passes'}")
        lines += [f"{'':<20} {part}" for part in describe_figures(result)]
    return [*lines, *(f"{name:<20} not measured: {why}" for name, why in certificate.skipped.items())]


def describe_figures(result: VariantResult) -> list[str]:
    """Return a variant's figures as sentences, those there are."""
    parts = []
    if result.cosine is not None:
        same = "the same bytes as at release" if result.identical else f"cosine to the release {result.cosine:.6f}"
        parts.append(f"self-test: {same}; computed on {', '.join(result.providers) or 'unknown'}")
    singles = [f"{times.median_ms:.3g} ms at {times.tokens}" for times in result.times if times.batch == 1]
    if singles:
        parts.append(f"one text: {', '.join(singles)} tokens")
    parts += [
        f"{times.batch} texts of {times.tokens} tokens: {1000 * times.batch / times.median_ms:.3g} texts/s"
        for times in result.times
        if times.batch > 1
    ]
    if result.peak_rss_mb is not None and result.cold_start_s is not None:
        parts.append(f"peak memory {result.peak_rss_mb:g} MB, cold start {result.cold_start_s:g} s")
    return parts
