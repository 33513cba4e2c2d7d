"""Pages that open a copy of the release for browsers."""

import shutil

import numpy as np
import pytest

from support.web_server import WebServer

TEXTS = ["How do I list my buckets?", "The cat sleeps.", "日本語のテキスト", "", "a " * 400]
# Opens the release in a page; `encoder` and `events` stay there.
OPEN = """async (options) => {
  const { openBundle } = await import("/browser/embed-foundry.js");
  window.events = [];
  window.encoder = await openBundle({ ...options, onevent: (event) => window.events.push(event) });
  return JSON.parse(JSON.stringify(encoder));
}"""
ENCODE = """async ([texts, options]) => {
  const result = await encoder.encode(texts, options);
  return { ...result, vectors: result.vectors.map((vector) => [...vector]) };
}"""
FAIL = """async (work) => {
  try { await eval(`(${work})`)(); } catch (error) { return { name: error.name, message: error.message }; }
  return null;
}"""


@pytest.fixture
def visit(chromium):
    """Return a function that opens an empty page of a server; pages of one `profile` share storage and service."""
    profiles, faults = {}, []

    def open_page(server, profile="", path="blank.html"):
        if profile not in profiles:
            profiles[profile] = chromium.new_context()
        page = profiles[profile].new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        own = (server.url, "blob:", "data:")
        page.on("request", lambda request: request.url.startswith(own) or faults.append(request.url))
        page.goto(f"{server.url}/{path}")
        return page

    yield open_page
    for context in profiles.values():
        context.close()
    assert faults == []


@pytest.fixture
def site(browser_release, tmp_path):
    """Return a copy of the release with an empty page, which a test may change."""
    folder = tmp_path / "site"
    shutil.copytree(browser_release, folder)
    (folder / "blank.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>A page</title>')
    return folder


@pytest.fixture
def server(site):
    with WebServer(site) as running:
        yield running


def encode(page, texts=TEXTS, **options):
    result = page.evaluate(ENCODE, [texts, options])
    return np.array(result.pop("vectors"), dtype=np.float64), result


def fail(page, work):
    """Return name and message of the error that a call in a page throws."""
    return page.evaluate(FAIL, work)


def list_events(page, kind):
    return [event for event in page.evaluate("events") if event["type"] == kind]


def wait_for_event(page, kind, **fields):
    page.wait_for_function(
        "([kind, fields]) => events.some((event) => event.type === kind &&"
        " Object.entries(fields).every(([key, value]) => event[key] === value))",
        arg=[kind, fields],
    )
