"""An operator's day in a real browser, on a real gateway: the demo and its console in Chromium.

With FOREWARN_SCREENSHOTS=FOLDER it also takes the README's pictures on its way:
`FOREWARN_SCREENSHOTS=gateway/console/screenshots pytest tests/e2e/test_walk.py`.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from gateway.core.clock import SystemClock
from gateway.learning.progress import Progress, Stage
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from models import bundle
from tests.e2e.processes import HERE
from tests.gateway.console.at_the_door import set_up, sign_in

ALARM_S_MAX = 180.0
CURVE_S = 60.0
"""A curve is worth a picture once it has gone on for a while."""


def learned_twice(data_dir: Path) -> tuple[str, str]:
    """A box that has learned the lathe twice: the ids of the bundle in use, and of the one before.

    Learning it live takes minutes; what it leaves behind is the same: two bundles and a place.
    """
    folder = data_dir / "models" / "lathe-1"
    folder.mkdir(parents=True)
    shipped = HERE / "models" / "artifacts" / "lathe.fwm"
    lathe, ids = bundle.read(shipped), []
    for name in ("second", "first"):
        manifest = lathe.manifest.model_copy(update={"id": f"lathe-1-{name}"})
        out = folder / f"{name}.fwm"
        ids.append(bundle.write(out, manifest, lathe.int8, lathe.fp32, lathe.golden).id)
    progress = Progress(Stage.ACTIVE, share=1.0, bundle="second.fwm", previous="first.fwm")

    async def keep() -> None:
        log = Log.open(data_dir, StoreConfig(), SystemClock())
        running = asyncio.create_task(log.run(lambda _condition: None))
        log.state_put("learn", "lathe-1", progress.dump())
        await log.flush()
        running.cancel()
        await asyncio.wait([running])
        log.close()

    with ThreadPoolExecutor(1) as thread:  # Playwright has a loop of its own in this one.
        thread.submit(lambda: asyncio.run(keep())).result()
    return ids[0], ids[1]


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[str]:
    """`forewarn demo`; gives the one-time link of its console."""
    command = [sys.executable, "-m", "gateway", "demo", "--headless", "--port", "0"]
    with subprocess.Popen(
        [*command, "--data-dir", str(folder), *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
    ) as process:
        try:
            assert process.stderr is not None
            events = (json.loads(line) for line in process.stderr if line.startswith("{"))
            url = next(e["url"] for e in events if e["event"] == "console.set_up")
            # Nobody else reads what it says: a full pipe would hold it up.
            drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            yield url
        finally:
            process.terminate()
            process.wait(30)
            drain.wait(30)


def test_a_day_with_the_demo(tmp_path: Path, browser: Browser) -> None:
    """Set-up, sign-in, fault, alarm, acknowledge, feedback, shelve, wire, roll back, sign-out."""
    in_use, before = learned_twice(tmp_path / "data")
    pictures = os.environ.get("FOREWARN_SCREENSHOTS")
    at_s = 75 if pictures else 20  # A picture shows how it was before.
    with demo(tmp_path, "--learn", "--fault", f"pump-1:bearing_wear:{at_s}") as setup_url:
        base = setup_url.partition("/setup")[0]
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB")
        page.set_default_timeout(30_000)
        others: list[str] = []
        faults: list[str] = []
        page.on(
            "request", lambda r: None if r.url.startswith((base, "data:")) else others.append(r.url)
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        set_up_and_sign_in(page, base, setup_url)
        alarm_arrives(page)
        if pictures:
            photograph(page, base, Path(pictures))
        deal_with_it(page, base)
        look_at_a_wire(page, base)
        go_back_to_the_model_before(page, base, in_use, before)
        page.goto(f"{base}/settings")
        trail = page.locator("table.list")
        for action in ("sign-in", "ack", "feedback", "shelve", "watch wire", "roll back"):
            expect(trail.get_by_role("cell", name=action, exact=True).first).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
        # The demo lets anybody look, and nobody act.
        assert page.goto(f"{base}/settings").status == 403  # type: ignore[union-attr]
        page.goto(f"{base}/alarms")
        expect(page.get_by_role("button", name="Unshelve")).to_be_hidden()
        assert others == [], "a request left for another host"
        assert faults == [], "a script failed"


def set_up_and_sign_in(page: Page, base: str, setup_url: str) -> None:
    set_up(page, setup_url, "eva")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    sign_in(page, base, "eva")
    assert page.goto(setup_url).status == 404  # type: ignore[union-attr]  # It was for once.
    page.goto(base)


def alarm_arrives(page: Page) -> None:
    """The page shows it by itself, within the time that the demo promises."""
    tile = page.locator('[data-key="tile:pump-1"]')
    expect(tile).to_have_attribute("data-state", "alarm", timeout=ALARM_S_MAX * 1000)
    expect(tile).to_contain_text("vibration")
    expect(page.get_by_role("heading", name="1 machine needs attention")).to_be_visible()
    for name in ("compressor-1", "conveyor-1"):
        expect(page.locator(f'[data-key="tile:{name}"]')).to_have_attribute("data-state", "ok")


def deal_with_it(page: Page, base: str) -> None:
    page.goto(f"{base}/")
    page.locator('[data-key="tile:pump-1"]').click()
    page.wait_for_selector("body[data-drawn]")
    assert page.locator(".js-plotly-plot .scatterlayer .trace").count() > 8
    page.get_by_role("link", name="Alarms").click()
    alarm = page.locator('.alarm[data-asset="pump-1"]')
    expect(alarm).to_contain_text("mm/s")
    alarm.get_by_role("button", name="Acknowledge").click()
    expect(alarm).to_have_attribute("data-state", "active_acked")
    expect(alarm).to_contain_text("acknowledged by eva")
    alarm.get_by_role("button", name="Was it real?").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Note").fill("outer race, heard it")
    dialog.get_by_role("button", name="Real").click()
    expect(alarm).to_contain_text("judged real")
    alarm.get_by_role("button", name="Shelve").click()
    dialog.get_by_role("button", name="1 hour").click()
    expect(alarm).to_have_attribute("data-state", "shelved")
    page.get_by_role("link", name="History").click()
    for event in ("came", "acknowledged", "judged real", "shelved"):
        expect(page.get_by_role("cell", name=event, exact=True)).to_be_visible()
    expect(page.locator("tbody")).to_contain_text("outer race, heard it")
    page.get_by_role("link", name="Figures").click()
    expect(page.locator(".kpi").first).to_be_visible()


def look_at_a_wire(page: Page, base: str) -> None:
    """The Modbus source's own bytes: a question of function 3 or 4, and its answer."""
    page.goto(f"{base}/sources")
    page.locator('[data-source="compressor-1"]').get_by_role("button", name="Last bytes").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("not being watched")
    dialog.get_by_role("button", name="Watch for 5 minutes").click()
    expect(dialog.locator("li", has_text="→ sent").first).to_contain_text("00 00 00 06 01 0")
    expect(dialog.locator("li", has_text="← received").first).to_be_visible()
    dialog.get_by_role("button", name="Stop and forget").click()
    expect(dialog.locator("li")).to_have_count(0)
    dialog.get_by_role("button", name="Close").click()


def go_back_to_the_model_before(page: Page, base: str, in_use: str, before: str) -> None:
    page.goto(f"{base}/models")
    card = page.locator(".model", has_text="lathe-1")
    expect(card.get_by_role("heading")).to_have_text(in_use)
    learning = page.locator('[data-learning="lathe-1"]')
    learning.get_by_role("button", name="Go back to the one before").click()
    page.get_by_role("dialog").get_by_role("button", name="Go ahead").click()
    # The page comes back by itself, with the other model at work.
    expect(card.get_by_role("heading")).to_have_text(before)


# Pictures


def photograph(page: Page, base: str, folder: Path) -> None:
    """The pictures of the README and of the console's page."""
    folder.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(CURVE_S * 1000)
    take(page, base, "/", folder / "plant.png", (1280, 860))
    take(page, base, "/asset?id=pump-1", folder / "asset.png", (1280, 940))
    page.emulate_media(color_scheme="dark")
    take(page, base, "/?wall=1", folder / "wall.png", (1600, 900))
    take(page, base, "/alarms", folder / "phone.png", (390, 660))
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 900})


def take(page: Page, base: str, path: str, file: Path, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(base + path)
    page.wait_for_selector("body[data-drawn]" if path.startswith("/asset") else "main")
    page.wait_for_timeout(1500)
    page.screenshot(path=file, animations="disabled")
