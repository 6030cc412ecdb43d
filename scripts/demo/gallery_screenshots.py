"""Screenshots of a gallery page for docs/gallery.md, taken with Chromium at the size of a desktop and of a phone.

    python scripts/demo/gallery_screenshots.py runs/photos/gallery.html docs/gallery

Needs selenium (extra `dev`) and Debian's chromium and chromium-driver (scripts/dev/install_browser.sh). PNGs are
reduced to 256 colours.
"""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import click
from PIL import Image
from selenium import webdriver

DESKTOP, PHONE = (1240, 980), (390, 1000)
"""Width and height in CSS pixels."""


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@click.option("--row", type=int, help="Row shown in rows.png and phone.png; without it the first of the page.")
def main(page: Path, target: Path, row: int | None) -> None:
    """Writes overview.png, rows.png, runs-dark.png and phone.png into the folder TARGET."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        raise click.ClickException("no chromium: scripts/dev/install_browser.sh installs one")
    target.mkdir(parents=True, exist_ok=True)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        driver.get(page.resolve().as_uri())
        driver.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
        selector = f"#row-{row}" if row is not None else ".row"
        shoot(driver, target / "overview.png", screen=DESKTOP, selector="body")
        shoot(driver, target / "rows.png", screen=DESKTOP, selector=selector)
        runs = "#runs" if driver.execute_script("return document.getElementById('runs') !== null") else "#rows"
        shoot(driver, target / "runs-dark.png", screen=DESKTOP, selector=runs, dark=True)
        shoot(driver, target / "phone.png", screen=PHONE, selector=selector)
    finally:
        driver.quit()


def shoot(driver: webdriver.Chrome, path: Path, *, screen: tuple[int, int], selector: str, dark: bool = False) -> None:
    """Saves the screen, scrolled so that the first element that matches `selector` is at its top."""
    phone = screen == PHONE
    metrics = {"width": screen[0], "height": screen[1], "deviceScaleFactor": 1.5 if phone else 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    preference = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})
    driver.execute_script("document.querySelector(arguments[0]).scrollIntoView()", selector)
    shot = base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    click.echo(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
