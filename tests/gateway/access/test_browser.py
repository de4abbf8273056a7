"""A real browser signs in, makes a token and leaves, by keyboard where people would."""

import re
import shutil

import httpx
import pytest
from playwright.sync_api import sync_playwright

pytestmark = pytest.mark.e2e

CHROMIUM = shutil.which("chromium")
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ADMIN = "an-administrator's-token-of-a-test"
PASSWORD = "correct horse battery"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed (Debian's package chromium)")
def test_somebody_signs_in_makes_a_token_and_signs_out(serve):
    server = serve(environment={"TITLEBOUT_ACCESS": "required", "TITLEBOUT_ADMIN_TOKEN": ADMIN})
    added = {"name": "ann", "grants": ["publisher"], "password": PASSWORD}
    api, admin = f"{server.url}/api/1.0/titlebout", {"Authorization": f"Bearer {ADMIN}"}
    assert httpx.post(f"{api}/users", json=added, headers=admin).is_success
    # No proxy is listed, so nobody on this machine is believed to be one.
    page = httpx.get(f"{server.url}/account", headers={**admin, "Accept": "text/html", "X-Forwarded-Proto": "https"})
    assert "https://" not in page.text
    complaints, asked = [], []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS) as chromium,
    ):
        browser = chromium.new_context()
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))

        # The page asks for what is typed first, and where one wanted to go isn't forgotten.
        page.goto(f"{server.url}/account?x=1")
        page.wait_for_url("**/signin?next=*")
        page.keyboard.type("ann")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/account?x=1")
        assert page.inner_text("h1") == "ann"
        (session,) = [cookie for cookie in browser.cookies() if cookie["name"] == "__Host-titlebout-session"]
        assert (session["secure"], session["httpOnly"], session["sameSite"]) == (True, True, "Strict")

        page.fill("#name", "laptop")
        page.check("input[value=viewer]")
        page.keyboard.press("Enter")
        page.wait_for_selector(".made")
        token = re.search(r"MLFLOW_TRACKING_TOKEN=(tbt_[\w-]+)", page.inner_text(".made"))[1]

        # What a link on another site leads to has the session too: localhost is another site than 127.0.0.1.
        page.goto(server.url.replace("127.0.0.1", "localhost") + "/signin")
        page.evaluate(f"location.href = '{server.url}/account'")
        page.wait_for_function("document.querySelector('h1')?.innerText === 'ann'")
        assert "laptop" in page.inner_text("table")

        page.click("text='Sign out'")
        page.wait_for_url("**/signin")
        assert [cookie["name"] for cookie in browser.cookies(server.url)] == ["__Host-titlebout-form"]
        page.goto(f"{server.url}/account")
        page.wait_for_url("**/signin?next=%2Faccount")
    assert complaints == []
    assert all(re.match(r"http://(127\.0\.0\.1|localhost):\d+/(signin|signout|account)", url) for url in asked)
    me = httpx.get(f"{api}/me", headers={"Authorization": f"Bearer {token}"}).json()
    assert (me["name"], me["grants"]) == ("ann", ["viewer"])
    assert not {PASSWORD, token, session["value"]} & set(re.split(r'[\s",:=]', server.log))
    assert PASSWORD not in server.log
