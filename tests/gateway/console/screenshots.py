"""Makes the README's pictures from the demo: `python -m tests.gateway.console.screenshots`.

Runs `forewarn demo`, sets the console up by its one-time link, waits until the failing machine has
alarmed, and photographs plant, asset and alarms. Needs Debian's chromium.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.gateway.console.test_browser import FLAGS

FOLDER = Path(__file__).parents[3] / "gateway" / "console" / "screenshots"
PASSWORD = "correct horse battery"
AFTER_ALARM_S = 60.0
"""The curve is worth seeing once it has gone on for a while."""


def main() -> None:
    """Make them all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "gateway", "demo", "--headless", "--port", "0"]
        with subprocess.Popen(
            [*command, "--data-dir", data], stderr=subprocess.PIPE, text=True, env=os.environ
        ) as demo:
            try:
                assert demo.stderr is not None
                url = ""
                for line in demo.stderr:
                    if not line.startswith("{"):
                        continue  # A library's own words.
                    event = json.loads(line)
                    if event.get("event") == "console.set_up":
                        url = event["url"]
                    if event.get("event") == "alarm":
                        break
                time.sleep(AFTER_ALARM_S)
                photograph(url, folder)
            finally:
                demo.terminate()
                demo.communicate(timeout=20)


def photograph(setup_url: str, folder: Path) -> None:
    """Set up, sign in, and take the pictures."""
    base = setup_url.partition("/setup")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-GB")
        page.goto(setup_url)
        page.get_by_label("Name").fill("eva")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again").fill(PASSWORD)
        page.get_by_role("button", name="Begin").click()
        page.wait_for_url(f"{base}/")
        page.set_viewport_size({"width": 1280, "height": 430})
        take(page, base, "/", folder / "plant.png")
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{base}/")
        page.locator(".tile[data-state=alarm]").first.click()
        page.wait_for_selector("body[data-drawn]")
        asset = page.url.removeprefix(base)
        take(page, base, asset, folder / "asset.png", wait="body[data-drawn]")
        page.set_viewport_size({"width": 1280, "height": 480})
        take(page, base, "/alarms", folder / "alarms.png")
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 1600, "height": 720})
        take(page, base, "/?wall=1", folder / "wall.png")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 390, "height": 780})
        take(page, base, "/alarms", folder / "phone.png")
        browser.close()


def take(page: Page, base: str, path: str, file: Path, wait: str = "main") -> None:
    """One picture."""
    page.goto(base + path)
    page.wait_for_selector(wait)
    page.wait_for_timeout(1500)
    page.screenshot(path=file, animations="disabled")
    print(f"{file.name}: {file.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
