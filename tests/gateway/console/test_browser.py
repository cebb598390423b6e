"""The console in a real browser: the whole walk, live updates, names that bite, and axe-core."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from gateway.console.render import moment
from gateway.console.views import AssetState, UnseenView
from gateway.core.alarm import Cause, Condition, Priority
from gateway.core.event import Event
from gateway.core.texts import as_said
from tests.gateway import brackets
from tests.gateway.console.at_the_door import set_up, sign_in
from tests.gateway.console.conftest import PASSWORD, Running, Start
from tests.gateway.console.fake import MACHINES, FakePlant

AXE = """async () => {
  const found = await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]});
  const bad = found.violations.map(v => [v.id, v.impact, v.nodes.map(n => n.html.slice(0, 160))]);
  return [bad, found.passes.length];
}"""
BELT = Event("pump-1", "repair", "belt", 10**18)
NASTY = '<img src=x onerror="document.title=1">'


class Visit:
    """One page of one person, and everything that it asked for or complained about."""

    def __init__(self, browser: Browser, console: Running, **context: Any) -> None:
        self.console = console
        self.context = browser.new_context(locale="en-GB", **context)
        self.context.set_default_timeout(30_000)
        self.page: Page = self.context.new_page()
        self.asked: list[Request] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request))  # noqa: PLW0108 - no bound builtin
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def sign_in(self, name: str) -> Page:
        sign_in(self.page, self.console.url, name)
        return self.page

    def others(self) -> set[str]:
        """Requests that left for any other host."""
        inside = (self.console.url, "data:")
        return {r.url for r in self.asked if not r.url.startswith(inside)}


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def make(console: Running, **context: Any) -> Visit:
        visits.append(Visit(browser, console, **context))
        return visits[-1]

    yield make
    for v in visits:
        assert v.others() == set(), "a request left for another host"
        assert v.faults == [], "a script failed"
        v.context.close()


def test_the_walk(start: Start, visit: Callable[..., Visit]) -> None:
    """Set-up, sign-in, fault, alarm, acknowledge, shelve, feedback, roll back, sign-out."""
    console = start(staffed=False)
    v = visit(console)
    page = v.page
    set_up(page, console.setup_url, "eva")
    expect(page.get_by_role("heading", name="All is well")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    v.sign_in("eva")

    tile = page.locator('[data-key="tile:pump-1"]')
    expect(tile).to_have_attribute("data-state", "ok")
    console.call(lambda: console.plant.fail("pump-1"))
    expect(tile).to_have_attribute("data-state", "alarm")
    expect(tile).to_contain_text("Does not run as it does when healthy")
    expect(page.get_by_role("heading", name="1 machine needs attention")).to_be_visible()
    expect(tile.get_by_role("img", name="high priority")).to_be_visible()

    page.get_by_role("link", name="Alarms").click()
    alarm = page.locator(".alarm")
    expect(alarm).to_contain_text("vibration 7.9 mm/s, high")
    alarm.get_by_role("button", name="Acknowledge").click()
    expect(alarm).to_have_attribute("data-state", "active_acked")
    expect(alarm).to_contain_text("acknowledged by eva")

    alarm.get_by_role("button", name="Was it real?").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Note").fill("inner race, seen with the stroboscope")
    dialog.get_by_role("button", name="Real").click()
    expect(alarm).to_contain_text("judged real")

    alarm.get_by_role("button", name="Shelve").click()
    dialog.get_by_role("button", name="1 hour").click()
    expect(alarm).to_have_attribute("data-state", "shelved")
    expect(alarm.get_by_role("button", name="Acknowledge")).to_have_count(0)

    page.get_by_role("link", name="History").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("tbody")).to_contain_text("stroboscope")

    page.get_by_role("link", name="Models").click()
    page.get_by_role("button", name="Go back to the one before").click()
    dialog.get_by_role("button", name="Go ahead").click()
    expect(page.get_by_role("button", name="Go back to the one before")).to_have_count(0)
    expect(page.locator('[data-learning="lathe-1"]')).to_contain_text("unlike its baseline")
    page.get_by_role("button", name="New baseline").click()
    dialog.get_by_role("button", name="Go ahead").click()
    expect(page.get_by_role("button", name="New baseline")).to_have_count(0)
    asked = [("lathe-1", ask, "eva") for ask in ("roll_back", "rebaseline")]
    assert console.plant.taught == asked

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(f"{console.url}/")
    page.wait_for_url("**/sign-in?next=*")


def test_a_flood_is_one_row_with_the_list_behind_it(
    start: Start, visit: Callable[..., Visit]
) -> None:
    console = start()
    page = visit(console).sign_in("otto")
    page.goto(f"{console.url}/alarms")
    for n in range(12):
        high = Condition(
            "conveyor-1", f"belt{n}.high", Cause.LIMIT, active=True, t_ns=0, on_delay_s=0.0
        )
        console.call(partial(console.plant.report, high))
    rows = page.locator(".alarms:not(.nested) > .alarm")
    expect(rows).to_have_count(1)
    expect(rows.get_by_role("heading", level=3).first).to_have_text("Flood on line 2: 12 alarms")
    rows.get_by_text("Show all 12").click()
    nested = rows.locator(".nested > .alarm")
    expect(nested).to_have_count(12)
    nested.nth(3).get_by_role("button", name="Acknowledge", exact=True).click()
    expect(rows.get_by_role("button", name="Acknowledge all 11")).to_be_visible()
    # What was open stays open when the row is drawn anew.
    expect(nested.nth(0)).to_be_visible()
    page.get_by_role("button", name="Unacknowledged").click()
    expect(rows).to_be_visible()
    page.get_by_role("button", name="Put aside").click()
    expect(rows).to_be_hidden()
    page.get_by_role("button", name="All", exact=True).click()
    # One slip of a glove must not acknowledge what nobody has read.
    page.get_by_role("button", name="Acknowledge all shown").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    rows.get_by_role("button", name="Acknowledge all 11").click()
    expect(rows).to_have_attribute("data-state", "active_acked")
    assert {v.acked_by for v in console.plant.alarms()} == {"otto"}


def test_what_happened_is_told_and_taken_back_by_the_keyboard(
    start: Start, visit: Callable[..., Visit]
) -> None:
    console = start()
    page = visit(console, timezone_id="Europe/Berlin").sign_in("otto")
    page.goto(f"{console.url}/asset?id=pump-1")
    section = page.locator(".of-events")
    expect(section.locator("li")).to_have_text("Nobody has told any yet.")
    section.get_by_text("Tell what happened").press("Enter")
    section.get_by_role("combobox").select_option(label="belt")
    section.get_by_label("When").fill("2026-03-01T12:00:00")
    section.get_by_label("Note").fill("worn")
    section.get_by_label("Note").press("Enter")
    # The page comes anew, its form shut.
    expect(section.locator("details")).not_to_have_attribute("open", "")
    expect(section.locator("li")).to_contain_text("told by otto")
    (event,) = console.plant.events("pump-1", 9)
    assert (event.code, moment(event.t_ns)) == ("belt", "2026-03-01T11:00:00.000000Z")
    section.get_by_role("button", name="Take back").press("Enter")
    page.get_by_role("dialog").get_by_label("Note").fill("another machine's")
    # Written down before it is answered, and perhaps seen before that.
    with page.expect_response("**/events/take-back"):
        page.get_by_role("dialog").get_by_role("button", name="Go ahead").press("Enter")
    expect(section.locator("li")).to_contain_text("taken back by otto")
    expect(section.get_by_role("button", name="Take back")).to_have_count(0)
    assert not console.plant.events("pump-1", 9)
    (gone,) = console.console._vault.trail.newest(1)
    assert (gone.action, gone.note) == ("take back 1 events", "another machine's")
    # What another tells is seen without a hand.
    console.call(lambda: tell(console.plant, BELT, "ana"))
    expect(section).to_contain_text("told by ana")


def tell(plant: FakePlant, event: Event, who: str) -> None:
    plant.happened.tell([event], by=who, at_ns=time.time_ns())


def test_charts_are_drawn_under_the_policy(start: Start, visit: Callable[..., Visit]) -> None:
    console = start()
    console.call(lambda: console.plant.fail("pump-1"))
    page = visit(console).sign_in("otto")
    page.goto(f"{console.url}/asset?id=pump-1")
    expect(page.locator("body[data-drawn]")).to_be_visible()
    assert page.locator(".js-plotly-plot .scatterlayer .trace").count() >= 5
    width = page.locator(".chart.tall .main-svg").first.bounding_box()
    assert width is not None
    assert width["width"] > 300
    expect(page.locator('[data-chart="temperature"] .annotation')).to_have_text(
        ["high-high", "high"]
    )
    page.get_by_role("button", name="1 day").click()
    expect(page.get_by_role("button", name="1 day")).to_have_attribute("aria-pressed", "true")


def test_names_and_notes_that_look_like_markup_stay_text(
    start: Start, visit: Callable[..., Visit]
) -> None:
    plant = FakePlant([(NASTY, NASTY, NASTY), ("..", "dots", ""), ("a'b\"c{{7*7}}", "x", "y")])
    console = start(plant=plant)
    console.call(lambda: plant.fail(NASTY))
    nasty = Condition(
        "..", NASTY, Cause.LIMIT, active=True, t_ns=0, text=as_said(NASTY), on_delay_s=0.0
    )
    console.call(lambda: plant.report(nasty))
    page = visit(console).sign_in("eva")
    title = page.title()
    for path in ("/", "/alarms", "/alarms/history", "/alarms/figures", "/sources", "/models"):
        page.goto(console.url + path)
        assert page.locator("main img").count() == 0, path
        assert page.title() != "1"
    page.goto(f"{console.url}/")
    expect(page.locator(".tile-name").first).to_have_text(NASTY)
    page.locator(".tile").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(NASTY)
    expect(page.locator("body[data-drawn]")).to_be_visible()
    button = page.get_by_role("button", name="Was it real?")
    button.click()
    page.get_by_role("dialog").get_by_label("Note").fill(NASTY)
    page.get_by_role("dialog").get_by_role("button", name="False").click()
    expect(page.locator(".alarm q")).to_have_text(NASTY)
    assert page.locator("main img").count() == 0
    assert title


HEARING = """() => {
  window.heard = 0;
  const Stream = EventSource;
  window.EventSource = class extends Stream {
    constructor(url) {
      super(url);
      this.addEventListener("message", () => setTimeout(() => { window.heard += 1; }));
    }
  };
}"""


def test_a_press_is_not_lost_to_an_update(start: Start, visit: Callable[..., Visit]) -> None:
    """A finger rests on a tile; meanwhile its machine fails, and tiles change places."""
    console = start()
    v = visit(console)
    v.page.add_init_script(f"({HEARING})()")
    page = v.sign_in("eva")
    name = page.locator(".tile-name").last.inner_text()
    tile = page.locator(f'[data-key="tile:{name}"]')
    page.wait_for_function("heard > 0")
    tile.scroll_into_view_if_needed()
    heard = page.evaluate("heard")
    tile.hover()
    page.mouse.down()
    console.call(lambda: console.plant.fail(name))
    page.wait_for_function("before => heard > before", arg=heard)
    page.mouse.up()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.go_back()
    expect(tile).to_have_attribute("data-state", "alarm")


@pytest.mark.parametrize("moves", [True, False])
def test_a_press_without_an_end_holds_nothing_up(
    start: Start,
    visit: Callable[..., Visit],
    moves: bool,
) -> None:
    """It ended outside of the window: a move without a button says so, or time does."""
    console = start()
    v = visit(console)
    v.page.add_init_script(f"({HEARING})()")
    page = v.sign_in("eva")
    name = page.locator(".tile-name").last.inner_text()
    page.wait_for_function("() => heard > 0")
    page.clock.install()
    page.locator("h1").hover()
    page.mouse.down()
    console.call(lambda: console.plant.fail(name))
    tile = page.locator(f'[data-key="tile:{name}"]')
    page.wait_for_function("() => heard > 1")
    expect(tile).to_have_attribute("data-state", "ok")
    if moves:
        page.locator("h1").dispatch_event("pointermove", {"buttons": 0})
        page.clock.run_for(50)
    else:
        page.clock.run_for(15_000)
    expect(tile).to_have_attribute("data-state", "alarm")


def test_a_press_before_the_script_is_there_waits_for_it(
    start: Start, visit: Callable[..., Visit]
) -> None:
    console = start()
    page = visit(console).sign_in("eva")
    console.call(lambda: console.plant.fail("pump-1"))
    under_way: list[Route] = []
    page.route("**/console.js*", lambda route: under_way.append(route))  # noqa: PLW0108 - no bound builtin

    def go(path: str) -> None:
        """To a page of which the script is under way."""
        with page.expect_request("**/console.js*"):
            page.goto(console.url + path, wait_until="commit")

    go("/alarms")
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    under_way.pop().continue_()
    expect(page.locator(".alarm")).to_have_attribute("data-state", "active_acked")
    go("/settings")
    form = page.locator('[data-form="/api/v1/users/add"]')
    form.get_by_label("Name").fill("olga")
    form.get_by_label("Password").fill("a few unrelated words")
    form.get_by_role("button").click()
    under_way.pop().continue_()
    expect(page.get_by_role("cell", name="olga", exact=True)).to_be_visible()
    assert "password" not in page.url


VISIBLE = """() => {
  const body = document.body.cloneNode(true);
  for (const el of body.querySelectorAll("time, script, style, pre")) el.remove();
  const texts = [document.title, body.textContent];
  for (const name of ["aria-label", "title", "placeholder", "alt", "data-empty", "data-ask"])
    for (const el of body.querySelectorAll(`[${name}]`)) texts.push(el.getAttribute(name));
  return texts.join(" \\n ");
}"""
SENTENCES = {"text", "cause", "learning_text", "missing", "reason", "reasons", "context", "detail"}
"""What is said in the language of the catalogue, rather than named by somebody."""
FIELDS = ("name", "password", "role")
UNITS = {"ms", "kB", "MB", "GB", "min", "vor", "Uhr", "UTC"}


def strings(value: Any) -> set[str]:
    """Every text in what the plant says, however deep."""
    if isinstance(value, str):
        return {value, *value.splitlines()}
    if is_dataclass(value) and not isinstance(value, type):
        named = (f.name for f in fields(value) if f.name not in SENTENCES)
        return set().union(*(strings(getattr(value, name)) for name in named))
    if isinstance(value, Mapping):
        return set().union(*(strings(k) | strings(v) for k, v in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return set().union(*map(strings, value))
    return set()


def test_every_word_that_can_be_seen_is_of_the_catalogue(
    start: Start, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    """In a language of brackets, no word stands outside of them but names, units and times."""
    console = start(language=str(brackets.write(tmp_path)))
    plant = console.plant
    console.call(lambda: plant.fail("pump-1"))
    for name in ("a.high", "b.high"):  # Two are a group.
        high = Condition("lathe-1", name, Cause.LIMIT, active=True, t_ns=0, on_delay_s=0.0)
        console.call(partial(plant.report, high))
    console.call(lambda: tell(plant, BELT, "ana"))
    v = visit(console)
    v.page.goto(f"{console.url}/sign-in")
    seen = {"/sign-in": v.page.evaluate(VISIBLE)}
    v.page.locator("input[name=name]").fill("eva")
    v.page.locator("input[name=password]").fill(PASSWORD)
    v.page.locator("form button").click()
    v.page.wait_for_url(f"{console.url}/")
    for path in (
        *("/", "/?wall=1", "/asset?id=pump-1", "/asset?id=lathe-1", "/alarms", "/alarms/history"),
        *("/alarms/figures", "/sources", "/models", "/outgoing", "/settings", "/asset?id=none"),
    ):
        v.page.goto(console.url + path)
        if path.startswith("/asset?id=") and "none" not in path:
            expect(v.page.locator("body[data-drawn]")).to_be_visible()
        seen[path] = v.page.evaluate(VISIBLE)
    v.page.goto(f"{console.url}/settings")
    for body in ({"name": "kim", "password": "short", "role": "viewer"}, {}):
        v.page.evaluate("body => post('/api/v1/users/add', body)", body)
        toast = v.page.locator("#toast").inner_text()
        assert toast.startswith("⟦"), toast
        seen[f"refused {len(body)}"] = toast
    said = strings([plant.assets(), plant.alarms(), plant.sources(), plant.bundles()])
    said |= strings([plant.health(), plant.channels(), plant.log, plant.settings()])
    said |= strings([plant.asset(a.id) for a in plant.assets()])
    said |= strings([plant.event_logs(), plant.events("", 9)])
    said |= strings([plant.learning(), console.console._vault.users()])
    said |= strings(console.console._vault.trail.newest(100)) | {"127.0.0.1", *FIELDS}
    known = sorted((s for s in said if s), key=len, reverse=True)
    for path, text in seen.items():
        assert text.count("⟦") > (5 if path.startswith("/") else 0), path
        rest = brackets.outside(text)
        for data in known:
            rest = rest.replace(data, " ").replace(data[:1].upper() + data[1:], " ")
        words = set(re.findall(r"[^\W\d_]{2,}", rest)) - UNITS
        assert not words, f"{path}: {sorted(words)}"


def test_a_viewer_is_offered_nothing_to_press(start: Start, visit: Callable[..., Visit]) -> None:
    console = start()
    console.call(lambda: console.plant.fail("pump-1"))
    page = visit(console).sign_in("vera")
    page.goto(f"{console.url}/alarms")
    expect(page.locator(".alarm")).to_be_visible()
    expect(page.get_by_role("button", name="Acknowledge", exact=True)).to_be_hidden()
    console.call(lambda: tell(console.plant, BELT, "ana"))
    page.goto(f"{console.url}/asset?id=pump-1")
    expect(page.locator(".of-events")).to_contain_text("told by ana")
    expect(page.get_by_role("button", name="Take back")).to_be_hidden()
    expect(page.get_by_text("Tell what happened")).to_be_hidden()


def test_losing_the_gateway_is_said_and_coming_back_is_seen(
    start: Start, visit: Callable[..., Visit]
) -> None:
    console = start()
    v = visit(console)
    page = v.sign_in("otto")
    v.context.set_offline(offline=True)
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    v.context.set_offline(offline=False)
    page.reload()
    console.call(lambda: console.plant.fail("pump-1"))
    expect(page.locator('[data-key="tile:pump-1"]')).to_have_attribute("data-state", "alarm")


SMALL = """() => [...document.querySelectorAll("a, button, input, select, summary")]
  .filter(el => !el.matches(".skip, h2 a") && el.checkVisibility({visibilityProperty: true}))
  .map(el => [el.innerText || el.name, Math.min(el.getBoundingClientRect().height, 44)])
  .filter(([, height]) => height > 0 && height < 43)"""
"""What a glove would miss; 44 px and a rounding."""


LONG = "Kühlschmierstoffhochdruckpumpenantriebsmotor-Nordhalle-07-B"


@pytest.mark.parametrize("size", [(390, 844), (800, 1280), (1280, 800)], ids=str)
def test_a_glove_finds_everything(
    start: Start, visit: Callable[..., Visit], size: tuple[int, int]
) -> None:
    """On a phone and on a tablet held either way, with every badge and a name of 59 letters."""
    plant = FakePlant([*MACHINES, (LONG, "Kühlschmierstoffhochdruckpumpe", "Nordhalle")])
    console = start(plant=plant)
    console.call(lambda: plant.fail(LONG))
    for priority, asset in ((Priority.HIGH, "pump-1"), (Priority.MEDIUM, "lathe-1")):
        console.call(partial(console.plant.fail, asset, 1.2, priority))
    console.call(lambda: console.plant.fail("conveyor-1", 1.2, Priority.LOW))
    console.call(lambda: tell(plant, replace(BELT, asset=LONG), LONG))
    v = visit(console, viewport={"width": size[0], "height": size[1]}, has_touch=True)
    page = v.sign_in("eva")
    for path in (
        *("/", "/alarms", f"/asset?id={LONG}", "/alarms/history", "/alarms/figures"),
        *("/sources", "/models", "/outgoing", "/settings"),
    ):
        page.goto(console.url + path)
        if path.startswith("/asset"):
            expect(page.locator("body[data-drawn]")).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size[0], f"{path} scrolls sideways"
        assert page.evaluate(SMALL) == [], path
        menu = page.get_by_role("navigation", name="Main menu").bounding_box()
        assert menu is not None
        assert menu["height"] <= 68, "the menu wraps"


def test_at_night_one_alarm_and_its_button_are_all_on_the_phone(
    start: Start, visit: Callable[..., Visit]
) -> None:
    console = start()
    console.call(lambda: console.plant.fail("pump-1"))
    page = visit(console, viewport={"width": 390, "height": 844}, has_touch=True).sign_in("otto")
    page.goto(f"{console.url}/alarms")
    expect(page.get_by_role("button", name="Acknowledge", exact=True)).to_be_visible()
    # Both at one moment: a row that is drawn anew has no place in between.
    page.wait_for_function(
        """() => {
          const place = (found) => document.querySelector(found)?.getBoundingClientRect();
          const [button, menu] = [place('.alarm [data-verb="ack"]'), place(".nav")];
          return button?.height > 0 && button.bottom < menu.top;
        }"""
    )


@pytest.mark.parametrize("machines", [9, 16, 30, 200])
def test_a_wall_shows_who_needs_attention_without_a_hand(
    start: Start, visit: Callable[..., Visit], machines: int
) -> None:
    """Nobody scrolls a wall: the last machine's alarm is in sight, too."""
    names = [(f"press-{n}", "press", "line 1") for n in range(1, machines + 1)]
    console = start(plant=FakePlant(names))
    console.call(lambda: console.plant.fail(f"press-{machines}"))
    page = visit(console, viewport={"width": 1920, "height": 1080}).sign_in("vera")
    page.goto(f"{console.url}/?wall=1")
    tile = page.locator(f'[data-key="tile:press-{machines}"]')
    expect(tile).to_be_in_viewport(ratio=1)
    expect(tile).to_contain_text("vibration 7.9 mm/s, high")


@pytest.mark.parametrize("alarms", [20, 60])
def test_a_wall_of_many_alarms_names_every_machine(
    start: Start, visit: Callable[..., Visit], alarms: int
) -> None:
    """Fewer words for each, but none of a hundred is out of sight."""
    console = start(plant=FakePlant([(f"press-{n}", "press", "line 1") for n in range(100)]))
    for n in range(alarms):
        console.call(partial(console.plant.fail, f"press-{n}"))
    page = visit(console, viewport={"width": 1920, "height": 1080}).sign_in("vera")
    page.goto(f"{console.url}/?wall=1")
    expect(page.locator(".tile.s-alarm")).to_have_count(alarms)
    for n in (0, alarms - 1, alarms, 99):
        expect(page.locator(f'[data-key="tile:press-{n}"]')).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize(("machines", "alarms"), [(100, 20), (40, 20), (20, 20), (9, 9)])
def test_a_small_wall_shows_every_alarm(
    start: Start, visit: Callable[..., Visit], machines: int, alarms: int
) -> None:
    """At 1280 x 720: 16 of 20 were in sight of a hundred machines, and four of twenty."""
    console = start(plant=FakePlant([(f"press-{n}", "press", "line 1") for n in range(machines)]))
    for n in range(alarms):
        console.call(partial(console.plant.fail, f"press-{n}"))
    page = visit(console, viewport={"width": 1280, "height": 720}).sign_in("vera")
    page.goto(f"{console.url}/?wall=1")
    expect(page.locator(".tile.s-alarm")).to_have_count(alarms)
    for n in (0, alarms // 2, alarms - 1):
        expect(page.locator(f'[data-key="tile:press-{n}"]')).to_be_in_viewport(ratio=1)
    expect(page.locator("#beyond")).to_be_hidden()


def test_what_finds_no_place_on_a_wall_is_counted_and_the_urgent_come_first(
    start: Start, visit: Callable[..., Visit]
) -> None:
    console = start(plant=FakePlant([(f"press-{n}", "press", "line 1") for n in range(20)]))
    for n in range(20):
        priority = Priority.HIGH if n == 19 else Priority.MEDIUM
        console.call(partial(console.plant.fail, f"press-{n}", 1.5 + n / 10, priority))
    v = visit(console, viewport={"width": 640, "height": 360})
    page = v.sign_in("vera")
    page.goto(f"{console.url}/?wall=1")
    bar = page.locator("#beyond")
    expect(bar).to_contain_text(
        re.compile(r"Out of sight: \d+ more that need attention, the worst 3")
    )
    expect(bar.get_by_role("img", name="medium priority")).to_be_visible()
    expect(page.locator('[data-key="tile:press-19"]')).to_be_in_viewport()
    page.set_viewport_size({"width": 1280, "height": 720})
    expect(bar).to_be_hidden()


def test_a_plant_without_machines_is_not_called_well(
    start: Start, visit: Callable[..., Visit]
) -> None:
    page = visit(start(plant=FakePlant([]))).sign_in("eva")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is watched yet")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(start: Start, visit: Callable[..., Visit], scheme: str) -> None:
    if find_spec("axe_playwright_python") is None and not os.environ.get("CI"):
        pytest.skip("axe-core is not installed")
    axe = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    console = start()
    v = visit(console, color_scheme=scheme, reduced_motion="reduce")
    v.page.goto(f"{console.url}/sign-in")
    v.sign_in("eva")
    console.call(lambda: console.plant.fail("pump-1"))
    for priority, asset in ((Priority.MEDIUM, "lathe-1"), (Priority.LOW, "conveyor-1")):
        console.call(partial(console.plant.fail, asset, 1.2, priority))
    gone = UnseenView("vibration", 10**18, "missing", "no usable samples")
    console.plant.views["compressor-1"] = replace(
        console.plant.views["compressor-1"], state=AssetState.PARTIAL, unseen=(gone,)
    )
    console.call(lambda: tell(console.plant, BELT, "ana"))
    console.call(lambda: console.plant.happened.take_back([BELT], by="eva", at_ns=10**18))
    console.call(lambda: tell(console.plant, BELT, "ana"))
    pages = ["/", "/asset?id=pump-1", "/asset?id=compressor-1", "/alarms", "/settings"]
    if scheme == "light":  # The dark theme differs in colours alone.
        pages += ["/alarms/history", "/alarms/figures", "/sources", "/models", "/outgoing"]
    for path in pages:
        v.page.goto(console.url + path)
        if path.startswith("/asset"):
            expect(v.page.locator("body[data-drawn]")).to_be_visible()
        v.page.evaluate(axe)
        faults, passed = v.page.evaluate(AXE)
        assert faults == [], path
        assert passed > 10, "axe looked at nothing"


def test_the_keyboard_reaches_everything(start: Start, visit: Callable[..., Visit]) -> None:
    console = start()
    console.call(lambda: console.plant.fail("pump-1"))
    page = visit(console).sign_in("otto")
    page.goto(f"{console.url}/alarms")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    button = page.get_by_role("button", name="Acknowledge", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".alarm")).to_have_attribute("data-state", "active_acked")
    page.get_by_role("button", name="Shelve").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
