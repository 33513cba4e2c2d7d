"""The page at /: what a person sees and hears, in headless Chromium."""

import re

import numpy as np
import pytest
from embed_foundry import open_bundle

from support.chromium import needs_chromium
from support.served import serve

TEXTS = ["How do I list my buckets?", "Returns a list of all buckets.", "The cat sleeps."]
KEY = "0123456789abcdef"
# Contrast by WCAG 2.2 of the text of every element that shows some, on the nearest background; drawn on a canvas, which
# turns any notation of a colour into bytes.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const bytes = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = color => {
    const [r, g, b] = bytes(color).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = element => {
    const color = getComputedStyle(element).backgroundColor;
    return bytes(color)[3] || !element.parentElement ? color : background(element.parentElement);
  };
  return [...document.querySelectorAll("h1, h2, p, label, dt, dd, td, th, button, textarea, select, a, caption")]
    .filter(element => element.checkVisibility() && element.textContent.trim())
    .map(element => {
      const [low, high] = [luminance(getComputedStyle(element).color), luminance(background(element))].sort();
      return [element.tagName, (high + 0.05) / (low + 0.05)];
    });
}"""


@pytest.fixture
def open_page(chromium):
    """Return a function that opens a service's page; nothing may go wrong in it, and nothing may leave the service."""
    contexts, faults = [], []

    def open_page(url, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
        page.on("request", lambda request: request.url.startswith(("data:", url)) or faults.append(request.url))
        page.goto(url)
        page.locator("#model option + option, #key-field:not([hidden])").first.wait_for(state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def compare(page, texts=TEXTS, **fields):
    page.get_by_label("Texts, one a line").fill("\n".join(texts))
    for label, value in fields.items():
        field = page.get_by_label(label.capitalize(), exact=True)
        field.select_option(value) if label != "dimensions" else field.fill(value)
    page.get_by_role("button", name="Compare").click()
    page.locator("#compare[aria-disabled=false]").wait_for()


def read_matrix(page):
    """Return the figures of the table, as a person reads them."""
    rows = page.get_by_role("row").all()[1:]
    return np.array([[float(cell) for cell in row.get_by_role("cell").all_inner_texts()] for row in rows])


def read_facts(page):
    return dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))


def test_browsers_get_a_page_that_runs_nothing_but_its_own_script(service):
    answer = service.client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"'sha256-[A-Za-z0-9+/]{43}='", policy)) == 2, "one style, one script"
    assert not re.search(r'(src|href)="(?!data:,|/openapi\.json)', answer.text), "nothing is loaded"
    assert service.client.get("/").text == "Ollama is running", "other clients ask who runs here"


@needs_chromium
@pytest.mark.parametrize("variant", ["onnx_int8", "static"])
def test_the_matrix_has_the_cosines_of_the_variants_vectors(service, released, open_page, variant):
    page = open_page(service.url)
    compare(page, variant=variant)
    vectors = open_bundle(released.folder, variant).encode(TEXTS)
    np.testing.assert_allclose(read_matrix(page), vectors @ vectors.T, atol=0.0051)
    facts = read_facts(page)
    shipped = service.client.post("/embed", json={"inputs": "a", "model": variant}).headers
    assert (facts["Variant"], facts["Vector space"]) == (variant, shipped["X-Space-Id"])
    assert facts["Release"] == shipped["X-Release"]
    assert int(facts["Tokens"]) >= len(TEXTS)
    assert facts["From the cache"] in ("0 of 3", "3 of 3")
    assert facts["Time in the service"].endswith(" ms")
    assert facts["Truncated texts"] == "none"
    compare(page)
    assert read_facts(page)["From the cache"] == "3 of 3"


@needs_chromium
def test_prompt_dimensions_and_truncation(service, open_page):
    page = open_page(service.url)
    compare(page, ["a bucket " * 400, "a cat", "", "  "], variant="onnx_fp32", dimensions="64")
    assert read_matrix(page).shape == (2, 2), "empty lines are no texts"
    assert read_facts(page)["Truncated texts"] == "1"
    prompts = page.get_by_label("Prompt").locator("option").all_inner_texts()
    shown = service.client.post("/api/show", json={"model": "onnx_fp32"}).json()["model_info"]
    assert prompts == ["none", *shown["foundry.prompts"]]
    assert page.get_by_label("Dimensions").get_attribute("placeholder") == "all 384"


@needs_chromium
def test_a_refusal_is_shown_in_the_services_words(service, open_page):
    page = open_page(service.url)
    compare(page, dimensions="9999")
    refused = service.client.post("/embed", json={"inputs": TEXTS, "truncate": True, "dimensions": 9999})
    shown = page.get_by_role("alert").inner_text()
    assert shown == f"{refused.status_code} {refused.headers['X-Reason']} {refused.json()['error']}"
    assert not page.get_by_role("table").is_visible()
    compare(page, [], dimensions="")
    assert "empty_input" in page.get_by_role("alert").inner_text()
    compare(page)
    assert page.get_by_role("alert").count() == 0
    assert page.get_by_role("table").is_visible()


@needs_chromium
def test_a_text_is_text_and_never_markup(service, open_page):
    page = open_page(service.url)
    compare(page, ["<img src=x onerror=alert(1)>", "</script><b>bold</b>", "&amp; \u202e\u200b"])
    assert page.locator("#matrix img, #matrix b").count() == 0
    assert "<img src=x onerror=alert(1)>" in page.get_by_role("rowheader").first.inner_text()


@needs_chromium
def test_it_works_by_keyboard_alone(service, open_page):
    page = open_page(service.url)
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert order == ["A", "texts", "model", "prompt", "dimensions", "compare"]
    page.keyboard.press("Enter")
    page.get_by_role("table").wait_for()
    page.get_by_label("Texts, one a line").focus()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("one")
    page.keyboard.press("Enter")
    page.keyboard.type("two")
    page.keyboard.press("Control+Enter")
    page.locator("#matrix tbody:not(:has(tr:nth-child(3)))").wait_for()
    assert page.locator("#matrix tbody tr").count() == 2
    assert page.get_by_role("status").inner_text().endswith("answered 2 texts.")


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_and_accessible_in_both_schemes(service, open_page, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(service.url, color_scheme=scheme)
    compare(page)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 30
    assert [tag for tag, contrast in contrasts if contrast < 4.5] == []
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(22, 24, 29)",
        }[scheme]
    )


@needs_chromium
def test_it_fits_a_phone(service, open_page):
    page = open_page(service.url, viewport={"width": 360, "height": 640})
    compare(page, [f"text {number} of a list" for number in range(12)])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the matrix scrolls, the page does not"


@needs_chromium
def test_a_service_with_keys_asks_for_one(released, tmp_path, open_page):
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with serve(released.folder, tmp_path, "--key-file", str(keys)) as service:
        page = open_page(service.url)
        page.get_by_label("Key").wait_for()
        assert "401 unauthorized" in page.get_by_role("alert").inner_text()
        page.get_by_label("Key").fill(KEY)
        compare(page)
        assert read_matrix(page).shape == (3, 3)
        assert KEY not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
