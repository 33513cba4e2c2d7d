"""Options of `serve`, on the command line and in the environment."""

import argparse
from dataclasses import fields
from pathlib import Path

import pytest
from embed_foundry import InputError
from embed_foundry.serve.options import OPTIONS, add_options, read_settings
from embed_foundry.serve.settings import Settings


def read(*arguments, **environ) -> Settings:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_settings(parser.parse_args(arguments), environ)


def test_every_setting_is_an_option_with_a_variable():
    assert {option.field for option in OPTIONS} | {"keys"} == {field.name for field in fields(Settings)}
    assert read() == Settings()


def test_the_command_line_is_before_the_environment_and_that_before_port():
    assert read(PORT="9000").port == 9000
    assert read(PORT="9000", EMBED_FOUNDRY_SERVE_PORT="9001").port == 9001
    assert read("--port", "0", EMBED_FOUNDRY_SERVE_PORT="9001").port == 0


def test_values_have_their_units_and_types():
    settings = read(
        *("--cache-mb", "0", "--max-body-mb", "2", "--aliases", "gemma=static,g=onnx_int8", "--access-log", "true"),
        *("--state", "/tmp/x", "--idle-s", "0", "--forwarded-by", "10.0.0.0/8,::1"),  # noqa: S108 - never written
        EMBED_FOUNDRY_SERVE_KEYS="a, b",
    )
    assert (settings.cache_bytes, settings.max_body_bytes, settings.idle_s) == (0, 2 << 20, 0)
    assert settings.aliases == {"gemma": "static", "g": "onnx_int8"}
    assert settings.forwarded_by == ("10.0.0.0/8", "::1/128")
    assert (settings.access_log, settings.state, settings.keys) == (True, Path("/tmp/x"), {"a", "b"})  # noqa: S108 - never written


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--port", "70000"), ("--port", "a"), ("--lanes", "0"), ("--deadline-s", "nan"), ("--deadline-s", "-1")),
        *(("--aliases", "a"), ("--aliases", "a=b=c"), ("--forwarded-by", "proxy"), ("--no-keys", "maybe")),
    ],
)
def test_a_wrong_value_is_refused_by_name(arguments):
    with pytest.raises(InputError, match=rf"^{arguments[0]} '{arguments[1]}': expected "):
        read(*arguments)
    variable = "EMBED_FOUNDRY_SERVE_" + arguments[0][2:].upper().replace("-", "_")
    with pytest.raises(InputError, match=rf"^\${variable} "):
        read(**{variable: arguments[1]})


def test_a_misspelt_variable_is_refused():
    with pytest.raises(InputError, match="EMBED_FOUNDRY_SERVE_PROT: no such setting"):
        read(EMBED_FOUNDRY_SERVE_PROT="1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104 - refused
def test_beyond_this_host_only_with_keys_or_the_word_of_the_operator(host, tmp_path):
    with pytest.raises(InputError, match="whoever reaches this address"):
        read("--host", host)
    assert read("--host", host, "--no-keys", "true").host == host
    assert read("--host", host, EMBED_FOUNDRY_SERVE_KEYS="k").host == host
    assert read("--host", host, "--key-file", str(tmp_path)).host == host
    assert read("--host", "::1").host == "::1"


def test_the_page_for_operators_lists_every_option(root):
    page = (root / "docs" / "service-operations.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("| `--")] == [
        f"| `--{option.name}` | {option.help[0].upper()}{option.help[1:]} |" for option in OPTIONS
    ]
