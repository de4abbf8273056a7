"""A served model's page and OpenAPI document, and that what they say to send is answered."""

import html
import re
import shutil
import subprocess

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from playwright.sync_api import sync_playwright

pytestmark = pytest.mark.e2e

CHROMIUM = shutil.which("chromium")


def test_the_page_says_what_the_model_is_and_loads_nothing(served):
    answer = served.get("/endpoints/iris/docs")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = answer.text
    for word in ["<h1>iris</h1>", "challenger", "version 1", "sepal length (cm)", "double", "X-Titlebout-Arm"]:
        assert word in page
    assert not re.search(r"<script|\bsrc=|@import|url\(|<link|https?://(?!127\.0\.0\.1)", page)
    assert "version 2" in served.get("/endpoints/iris%40challenger/docs").text


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed (Debian's package chromium)")
def test_a_browser_shows_the_page_and_asks_nobody_for_more(served):
    asked, complaints = [], []
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM) as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        url = f"{served.url}/endpoints/iris/docs"
        page.goto(url, wait_until="networkidle")
        assert page.inner_text("h1") == "iris"
        # It is the page's own style, which its policy lets pass, that says how wide it may be.
        assert page.evaluate("getComputedStyle(document.querySelector(`main`)).maxWidth") != "none"
        page.click("text=OpenAPI")
        page.wait_for_url("**/openapi.json")
    assert asked == [url, f"{served.url}/endpoints/iris/openapi.json"]
    assert complaints == []


def test_each_line_to_paste_is_answered(served):
    lines = [
        html.unescape(line) for line in re.findall(r"(?s)<pre>(.*?)</pre>", served.get("/endpoints/petal/docs").text)
    ]
    assert len(lines) == 5
    # MLflow saved the example: two rows of the training data.
    said = [subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout.decode() for line in lines]
    values = [re.search(r"\[(-?\d+\.\d+),(-?\d+\.\d+)\]", text).groups() for text in said]
    assert len(set(values)) == 1, said


def test_an_endpoint_that_is_not_there_says_why(served):
    for what in ("docs", "openapi.json"):
        answer = served.get(f"/endpoints/nothing/{what}")
        assert answer.status_code == 404
        assert "nothing" in answer.json()["message"]


def operations(served):
    document = httpx.get(f"{served.url}/endpoints/petal/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=served.url)
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.filterwarnings("ignore")  # What the fuzzer's own dependencies warn of.
def test_whatever_a_fuzzer_makes_of_the_document_is_answered_without_a_fault(served):
    statuses = set()

    def probe_all(operation):
        @seed(0)
        @settings(
            max_examples=40, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=HealthCheck
        )
        @given(case=operation.as_strategy())
        def probe(case):
            answer = case.call()
            statuses.add(answer.status_code)
            # A deadline of nothing is a 504, as the document says.
            assert str(answer.status_code) in operation.definition.raw["responses"], case.as_curl_command()
            assert answer.status_code != 500, case.as_curl_command()

        probe()

    found = operations(served)
    assert len(found) == 4
    for operation in found:
        probe_all(operation)
    assert 200 in statuses
