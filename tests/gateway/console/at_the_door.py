"""What a person does at the console's door, in a browser: set it up, sign in."""

from playwright.sync_api import Page, expect

from tests.gateway.console.conftest import PASSWORD

expect.set_options(timeout=30_000)  # Five seconds are little on a busy machine.


def set_up(page: Page, setup_url: str, name: str) -> None:
    """Become the first engineer by the one-time link; ends on the plant page."""
    page.goto(setup_url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/")


def sign_in(page: Page, base: str, name: str) -> None:
    """Through the door; ends on the plant page."""
    page.goto(f"{base}/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{base}/")
