"""The options of `serve`: one table, which makes the command line, the environment variables and the documentation."""

import argparse
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .settings import MIB, Settings

# In front of every environment variable: EMBED_FOUNDRY_SERVE_PORT.
PREFIX = "EMBED_FOUNDRY_SERVE_"
# Railway, Heroku, Cloud Run and others say by it where they expect a service.
PORT = "PORT"


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        field: of `Settings`.
        name: on the command line, without the dashes.
        expected: what it takes, for messages.
        parse: text -> value; a wrong text raises ValueError.
        help: what it does, and when to change it.
    """

    field: str
    name: str
    expected: str
    parse: Callable[[str], Any]
    help: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it, too."""
        return PREFIX + self.name.upper().replace("-", "_")

    def read(self, text: str, origin: str) -> object:
        """Return the value of a text.

        Raises:
            InputError: it is none; the message names `origin`.
        """
        try:
            return self.parse(text)
        except ValueError:
            raise InputError(f"{origin} {text!r}: expected {self.expected}.") from None


def _whole(least: int, most: int = 2**31, unit: int = 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError
        return number * unit

    return parse


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e6:
        raise ValueError
    return number


def _parse_aliases(text: str) -> dict[str, str]:
    pairs = [pair.split("=") for pair in text.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise ValueError
    return {pair[0]: pair[1] for pair in pairs}


def _parse_networks(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(part, strict=False)) for part in text.split(","))


def _parse_switch(text: str) -> bool:
    try:
        return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


OPTIONS = (
    Option("host", "host", "an address of this host", str, "address to listen on; 0.0.0.0 in a container"),
    Option("port", "port", "0 to 65535", _whole(0, 65535), "TCP port; 0 takes any free one; $PORT sets it, too"),
    Option(
        "processes",
        "processes",
        "a number from 1",
        _whole(1, 256),
        "processes that share the port; more than one where the web server's own work limits (static variants)",
    ),
    Option(
        "threads",
        "threads",
        "a number from 1",
        _whole(1, 1024),
        "CPU threads in all; default: what the container's quota allows",
    ),
    Option(
        "lanes",
        "lanes",
        "a number from 1",
        _whole(1, 1024),
        "calls of models at once, which share the threads; default: one for each thread. 1 answers a lone client "
        "faster, more answer many clients faster",
    ),
    Option("key_file", "key-file", "a file", Path, "file of bearer keys, one a line; it is read again when it changes"),
    Option(
        "no_keys",
        "no-keys",
        "true or false",
        _parse_switch,
        "true: listen beyond this host without keys, where a proxy or a network policy admits clients",
    ),
    Option(
        "aliases",
        "aliases",
        "NAME=VARIANT,NAME=VARIANT",
        _parse_aliases,
        "other names of variants, such as gemma-int8=openvino_int8",
    ),
    Option(
        "max_models",
        "max-models",
        "a number from 1",
        _whole(1, 1000),
        "variants in memory at once; default by memory: 1 up to 2 GB, 2 up to 4 GB, 3 up to 8 GB, 5",
    ),
    Option(
        "idle_s",
        "idle-s",
        "seconds",
        _seconds,
        "unload a variant that was not used for so long; 0: never; default by memory: 60, 300, 600, 0",
    ),
    Option("max_body_bytes", "max-body-mb", "MiB from 1", _whole(1, 4096, MIB), "largest body of a request, in MiB"),
    Option("max_texts", "max-texts", "a number from 1", _whole(1), "most texts of a request"),
    Option("max_characters", "max-characters", "a number from 1", _whole(1), "longest text, before it is tokenized"),
    Option(
        "max_queued_tokens",
        "max-queued-tokens",
        "a number from 1",
        _whole(1),
        "tokens that may wait; a request that would make them more is refused with 429",
    ),
    Option(
        "max_client_requests",
        "max-client-requests",
        "a number from 1",
        _whole(1),
        "requests of one client at once, by its key, else its address; more are refused with 429",
    ),
    Option(
        "forwarded_by",
        "forwarded-by",
        "addresses or networks, such as 10.0.0.0/8",
        _parse_networks,
        "proxies whose X-Forwarded-For names the client",
    ),
    Option(
        "batch_tokens",
        "batch-tokens",
        "a number from 1",
        _whole(1),
        "tokens of one call of a model; fewer keep lanes free for short requests",
    ),
    Option("deadline_s", "deadline-s", "seconds", _seconds, "answer or refuse within so many seconds"),
    Option("drain_s", "drain-s", "seconds", _seconds, "running requests get so many seconds after SIGTERM"),
    Option(
        "cache_bytes",
        "cache-mb",
        "MiB from 0",
        _whole(0, 1 << 20, MIB),
        "cache of vectors in memory, in MiB; 0 switches all caching off",
    ),
    Option(
        "cache_url",
        "cache-url",
        "redis://HOST:PORT/DB, or a folder",
        str,
        "a second cache: Redis-compatible storage for replicas, or a folder that survives restarts",
    ),
    Option(
        "disk_cache_bytes",
        "disk-cache-mb",
        "MiB from 1",
        _whole(1, 1 << 20, MIB),
        "bound of a cache in a folder, in MiB",
    ),
    Option(
        "channel",
        "channel",
        "a channel, or a digest",
        str,
        "serve the release that this channel of a store points at, in place of SOURCE, and follow it as it moves",
    ),
    Option(
        "store",
        "store",
        "s3://BUCKET/PREFIX or file://FOLDER",
        str,
        "the store; default: $EMBED_FOUNDRY_STORE, ./store",
    ),
    Option("endpoint", "endpoint", "a URL", str, "its S3 server; default: $AWS_ENDPOINT_URL, boto3's configuration"),
    Option("poll_s", "poll-s", "seconds", _seconds, "look at a followed channel every so many seconds"),
    Option("state", "state", "a folder", Path, "folder for fetched and unpacked releases"),
    Option(
        "access_log", "access-log", "true or false", _parse_switch, "true: one line of JSON a request, without texts"
    ),
    Option(
        "tracing",
        "tracing",
        "true or false",
        _parse_switch,
        "true: a span a request by OpenTelemetry, to $OTEL_EXPORTER_OTLP_ENDPOINT; needs the extra otel",
    ),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every option to a parser; values stay texts until `read_settings`."""
    for option in OPTIONS:
        parser.add_argument(f"--{option.name}", dest=option.field, metavar=option.expected.upper(), help=option.help)


def read_settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Return the settings: the command line's options, else the environment's variables, else the defaults.

    Raises:
        InputError: a value is wrong, or a variable with our prefix is none of ours.
    """
    variables = {option.variable for option in OPTIONS} | {f"{PREFIX}KEYS"}
    if unknown := sorted(name for name in environ if name.startswith(PREFIX) and name not in variables):
        raise InputError(f"{', '.join(unknown)}: no such setting. `embed-foundry serve --help` lists them.")
    values: dict[str, Any] = {}
    if port := environ.get(PORT):
        values["port"] = next(option for option in OPTIONS if option.field == "port").read(port, f"${PORT}")
    for option in OPTIONS:
        if text := environ.get(option.variable):
            values[option.field] = option.read(text, f"${option.variable}")
        if (text := getattr(args, option.field)) is not None:
            values[option.field] = option.read(text, f"--{option.name}")
    settings = Settings(**values, keys=_split_keys(environ.get(f"{PREFIX}KEYS", "")))
    if not (settings.keys or settings.key_file or settings.no_keys or is_loopback(settings.host)):
        raise InputError(
            f"--host {settings.host}: whoever reaches this address could use the service. Give --key-file FILE or "
            f"${PREFIX}KEYS, or --no-keys true where a proxy or a network policy admits clients."
        )
    return settings


def is_loopback(host: str) -> bool:
    """Return whether only this host reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split_keys(text: str) -> frozenset[str]:
    return frozenset(filter(None, (part.strip() for part in text.replace(",", "\n").splitlines())))
