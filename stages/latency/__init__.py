"""latency: all variants against the baseline, interleaved, each in its own process with pinned threads.

In: the catalogued variants, data/ (documents that inputs are cut from), machine.json.
Out: latency/samples.csv (variant,tokens,batch,round,ms,after_pause_ms: every kept call) and latency/latency.json:

    machine, machine_digest   the fingerprint
    threads, baseline         as configured
    host                      load_before, load_after, others_cpus, throttled_s?, steal_s?: what else went on
                              (common/measure/host.py); crowded: others took the CPUs, so the figures mislead
    quota                     cpus (null: none asked for), enforced, and throttled_s of the workers, or why not
    peak_gops                 fp32, bf16, int8: billions of operations a second that matrix products reach (peak.py)
    operations                tokens -> operations of the baseline's matrix products for one text of that length; both
                              are empty where the baseline is not torch
    variants.NAME             {"error": why}, or
      lengths.TOKENS          one text a call: n, median_ms, after_pause_ms (the call before each sample, straight
                              after a pause), p95_ms? and p95_ms_upper? (n >= 59), p99_ms? and p99_ms_upper?
                              (n >= 299), speedup {median, low, high}
      batch                   size, tokens, n, median_ms, texts_per_s, tokens_per_s, speedup {median, low, high}
      cold_start_s            median, values: process start to first vector, files possibly in the page cache
      peak_rss_mb             of the process after all of the above, 10^6 bytes

A key with "?" is absent where it cannot be known. speedup is the median over rounds of baseline time / own time, low
and high its 95 % interval; p95_ms_upper is the 95 % upper bound of that percentile (common/measure/statistics.py).
Warns: other processes took the CPUs that were measured.
Fails: 2 machine.json is of another machine, no texts; 3 an input differs from its manifest, or the baseline's encoder
fails; 75 the baseline's process dies or hangs. Any other variant's failure is its result, and fails at the gate.
"""

from stages.latency.stage import measure, run

__all__ = ["measure", "run"]
