"""The gallery page in a real browser, from disk: no requests and no errors, filters, keys, a phone's width, colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from tests.browser import Browser, browser
from tests.programs import call, teacher_arguments

TAB, DOWN, UP, RIGHT, END, HOME, ENTER, SPACE = (
    "\ue004", "\ue015", "\ue013", "\ue014", "\ue010", "\ue011", "\ue007", " ",
)  # fmt: skip
"""WebDriver's codes of keys."""
SHOWN = "[...document.querySelectorAll('.row')].filter(row => !row.hidden)"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page_path(
    window: Browser, data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("page")
    call("save_logits", teacher_arguments(data_path, teacher_weights, folder / "t.zarr"))
    out = folder / "gallery.html"
    call("gallery", [f"store.path={folder / 't.zarr'}", f"data.path={data_path}", f"out={out}", "show.rows=8"])
    return out


@pytest.fixture
def page(window: Browser, page_path: Path) -> Browser:
    """The page, newly loaded at the size of a desktop, with nothing in the logs."""
    window.console(), window.requests()
    window.resize(1280, 900)
    window.prefer("light")
    window.open(page_path)
    return window


def rows(page: Browser) -> list[str]:
    names: list[str] = page.run(f"return {SHOWN}.map(row => row.id)")
    return names


def focused(page: Browser) -> str:
    name: str = page.run("return document.activeElement.id")
    return name


def test_it_loads_without_errors_and_requests_nothing(page: Browser, page_path: Path) -> None:
    assert page.driver.title == "t.zarr · gallery"
    assert page.run("return [...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.run("return getComputedStyle(document.body).maxWidth") == "none"
    assert page.run("return document.querySelector('.bars rect').getBoundingClientRect().width") > 0
    assert page.requests() == [page_path.as_uri()]
    assert page.console() == []
    assert page.keep_screenshot("gallery-desktop").stat().st_size > 10_000


def test_its_policy_stops_foreign_scripts_and_requests(page: Browser) -> None:
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.foreign = 1'; document.body.append(s)"
    )
    page.run("const i = document.createElement('img'); i.src = 'http://localhost:9/x.png'; document.body.append(i)")
    assert page.run("return window.foreign === undefined")
    refused = [message for message in page.console() if "Content Security Policy" in message]
    assert len(refused) == 2 and "script" in refused[0] and "http://localhost:9/x.png" in refused[1]


def test_filters_by_kind_text_and_order(page: Browser) -> None:
    everything = rows(page)
    page.run("document.querySelector('[data-kind=disagreement]').click()")
    assert 0 < len(rows(page)) < len(everything)
    assert page.run(f"return {SHOWN}.every(row => row.dataset.kinds.includes('disagreement'))")
    assert page.run("return document.querySelector('[data-kind=disagreement]').getAttribute('aria-pressed')") == "true"
    assert page.run("return document.getElementById('count').textContent") == f"{len(rows(page))} rows"
    assert page.run("return document.querySelector('[data-meaning=disagreement]').hidden") is False
    page.run("document.querySelector('[data-kind=all]').click()")
    assert rows(page) == everything

    find = page.driver.find_element("id", "find")
    find.send_keys("ANCHOR/")
    anchors = rows(page)
    assert 0 < len(anchors) < len(everything)
    assert page.run(f"return {SHOWN}.every(row => row.querySelector('.key').textContent.startsWith('anchor/'))")
    find.send_keys("no such thing")
    assert rows(page) == [] and page.driver.find_element("id", "none").is_displayed()
    page.run("document.getElementById('reset').click()")
    assert rows(page) == everything and focused(page) == "find"

    order = (
        "const order = document.getElementById('order'); order.value = '{}'; order.dispatchEvent(new Event('change'))"
    )
    page.run(order.format("-entropy"))
    entropies = page.run(f"return {SHOWN}.map(row => Number(row.dataset.entropy))")
    assert entropies == sorted(entropies, reverse=True)
    page.run(order.format("row"))
    numbers = [int(name.removeprefix("row-")) for name in rows(page)]
    assert numbers == sorted(numbers)
    page.run(order.format(""))
    assert rows(page) == everything
    assert page.console() == []


def test_every_control_is_reached_by_keys(page: Browser) -> None:
    reached = []
    for _ in range(40):
        page.press(TAB)
        reached.append(
            page.run("const e = document.activeElement; return e.id || e.dataset.kind || e.textContent.trim()")
        )
        if reached[-1].startswith("row-"):
            break
    assert {"Skip to the rows", "theme", "all", "random", "find", "order", "unfold"} <= set(reached)
    names = rows(page)
    assert reached[-1] == names[0]
    style = "const style = getComputedStyle(document.activeElement); return style.outlineStyle + style.outlineWidth"
    assert page.run(style) == "solid3px"
    for key, place in ((DOWN, 1), (RIGHT, 2), (UP, 1), (END, -1), (DOWN, -1), (HOME, 0), (UP, 0)):
        page.press(key)
        assert focused(page) == names[place], key
    assert page.run("return document.activeElement.getAttribute('aria-labelledby')") == f"title-{names[0][4:]}"
    assert page.run(f"return {SHOWN}.filter(row => row.tabIndex === 0).length") == 1
    page.press(TAB)
    assert page.run("return document.activeElement.tagName") == "SUMMARY"
    page.press(ENTER)
    assert page.run("return document.activeElement.parentElement.open")

    page.run("document.querySelector('[data-kind=random]').focus()")
    page.press(SPACE)
    assert page.run("return document.querySelector('[data-kind=random]').getAttribute('aria-pressed')") == "true"
    page.run("document.getElementById('unfold').focus()")
    page.press(ENTER)
    assert page.run("return [...document.querySelectorAll('details.drawn')].every(each => each.open)")


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(page: Browser, page_path: Path, width: int) -> None:
    page.resize(width, 844, mobile=True)
    page.open(page_path)
    page.run("document.getElementById('unfold').click()")
    page.run("document.querySelector('.facts').open = true")
    assert page.run("return [document.documentElement.scrollWidth, innerWidth]") == [width, width]
    wide = """
    return [...document.querySelectorAll('main *')].filter(each => !each.closest('.x, .name')
      && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80));
    """
    assert page.run(wide) == []
    page.run("document.getElementById('rows').scrollIntoView()")
    page.keep_screenshot(f"gallery-phone-{width}")


def test_it_is_light_or_dark(page: Browser) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(ground)
    page.prefer("dark")
    dark = page.run(ground)
    shot = cv2.imread(str(page.keep_screenshot("gallery-dark")))
    assert shot is not None
    assert dark != light and shot[5:20, 5:20].mean() < 60
    page.run("document.getElementById('theme').click()")
    assert page.run(ground) == light, "the button changes what the system prefers"
    page.prefer("light")
    page.run("document.documentElement.dataset.theme = 'dark'")
    assert page.run(ground) == dark


def test_texts_have_enough_contrast(page: Browser) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3) for the page's texts, light and dark."""
    names = "h1,.heading p,nav a,dt,.more,.notice,.key,.summary,.sums,.name,.tail .name,.p,.tag,summary,.meaning,.x"
    code = """
    const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
    const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const ground = (element) => {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      return colour.length < 4 || colour[3] === 1 ? colour : ground(element.parentElement);
    };
    const ratio = (element) => {
      const both = [light(numbers(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
      return (both[0] + 0.05) / (both[1] + 0.05);
    };
    return Object.fromEntries(NAMES.split(',').map(name => [name, ratio(document.querySelector(name))]));
    """.replace("NAMES", repr(names))
    for colours in ("light", "dark"):
        page.prefer(colours)
        assert {name: ratio for name, ratio in page.run(code).items() if ratio < 4.5} == {}, colours
