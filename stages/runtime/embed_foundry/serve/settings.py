"""What a service is told at its start: by options, each with an environment variable of the same name."""

from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """How a service behaves. `options.py` documents each option for users.

    Attributes:
        host: address to listen on; loopback unless set, for a service without keys is open to whoever reaches it.
        port: TCP port.
        processes: how many processes share the port.
        threads: CPU threads of each process's encoders; None divides what the container's quota allows.
        lanes: calls of models at once, which share the threads; None has one for each thread.
        keys: bearer keys that are accepted; without any, and without a file of them, everybody is.
        key_file: file of further ones, one a line.
        no_keys: whether to listen beyond this host without keys.
        forwarded_by: networks of proxies whose X-Forwarded-For names the client.
        aliases: other names of variants: name -> variant ("gemma-int8" -> "openvino_int8").
        max_models: variants in memory at once; None follows the memory's tier.
        idle_s: seconds after which an unused variant is unloaded; None follows the tier, 0 means never.
        max_body_bytes: of a request.
        max_texts: of a request.
        max_characters: of a text, before it is tokenized.
        max_queued_tokens: of all requests that wait; more are refused with 429.
        max_client_requests: of one client at once.
        batch_tokens: of one call of the model.
        deadline_s: seconds within which a request is answered or refused.
        drain_s: seconds that running requests get after SIGTERM.
        cache_bytes: of the cache of vectors in memory; 0 switches it off.
        disk_cache_bytes: of a cache in a folder.
        cache_url: a cache shared by replicas: redis://…, or a folder on disk; "" has none.
        channel: the store's channel that is followed, or a digest; "" follows none.
        store: address of the store; "" takes $EMBED_FOUNDRY_STORE, else the folder `store`.
        endpoint: the S3 server; "" takes boto3's configuration.
        poll_s: seconds between two looks at a followed channel.
        access_log: whether to write a line for every request.
        tracing: whether to send spans by OpenTelemetry.
        state: folder for fetched and unpacked releases.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    processes: int = 1
    threads: int | None = None
    lanes: int | None = None
    keys: frozenset[str] = frozenset()
    key_file: Path | None = None
    no_keys: bool = False
    forwarded_by: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)
    max_models: int | None = None
    idle_s: float | None = None
    max_body_bytes: int = 8 * MIB
    max_texts: int = 2048
    max_characters: int = 200_000
    max_queued_tokens: int = 262_144
    max_client_requests: int = 256
    batch_tokens: int = 16_384
    deadline_s: float = 30.0
    drain_s: float = 20.0
    cache_bytes: int = 64 * MIB
    disk_cache_bytes: int = 1024 * MIB
    cache_url: str = ""
    channel: str = ""
    store: str = ""
    endpoint: str = ""
    poll_s: float = 15.0
    access_log: bool = False
    tracing: bool = False
    state: Path = Path(".embed-foundry")
