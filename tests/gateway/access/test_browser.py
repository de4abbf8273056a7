"""A real browser signs in, makes a token and leaves, by keyboard where people would."""

import re
import shutil

import httpx
import pytest
from playwright.sync_api import sync_playwright

from tests.gateway.test_serving import wait_until
from tracking.access.grants import Grant
from tracking.access.permissions import Role
from tracking.access.secrets import hash_password
from tracking.access.users import create_user
from tracking.database import Database

pytestmark = pytest.mark.e2e

CHROMIUM = shutil.which("chromium")
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ADMIN = "an-administrator's-token-of-a-test"
PASSWORD = "correct horse battery"


def add_ann(data):
    """Somebody whom an administrator gave a password."""
    data.mkdir()
    database, everything = Database(f"sqlite:///{data}/titlebout.db"), [Grant(Role.ADMIN)]
    database.upgrade()
    with database.writing() as session:
        create_user(
            session,
            "ann",
            grants=[Grant(Role.PUBLISHER)],
            password_hash=hash_password(PASSWORD),
            author="admin",
            own=everything,
            now_ms=0,
        )
    database.dispose()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed (Debian's package chromium)")
def test_somebody_signs_in_makes_a_token_and_signs_out(serve, tmp_path):
    # Before the start, as whoever is added later is known up to two seconds after.
    add_ann(tmp_path / "data")
    server = serve(data=tmp_path / "data", environment={"TITLEBOUT_ACCESS": "required", "TITLEBOUT_ADMIN_TOKEN": ADMIN})
    api, admin = f"{server.url}/api/1.0/titlebout", {"Authorization": f"Bearer {ADMIN}"}
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
        page.wait_for_function("document.activeElement?.name === 'name'")
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
    bearer = {"Authorization": f"Bearer {token}"}
    wait_until(lambda: httpx.get(f"{api}/me", headers=bearer).is_success)
    me = httpx.get(f"{api}/me", headers=bearer).json()
    assert (me["name"], me["grants"]) == ("ann", ["viewer"])
    assert not {PASSWORD, token, session["value"]} & set(re.split(r'[\s",:=]', server.log))
    assert PASSWORD not in server.log
