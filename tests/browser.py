"""A headless Chromium for tests of the gallery page; without one, tests that use it are skipped and say so.

Debian's `chromium` and `chromium-driver`; `scripts/dev/install_browser.sh` installs them. Screenshots are saved in the
folder that DISTILL_TEST_ARTEFACTS names, else in tests/artefacts.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ARTEFACTS = Path(os.environ.get("DISTILL_TEST_ARTEFACTS") or Path(__file__).parent / "artefacts")


class Browser:
    """One open page, with its console and its requests."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, path: Path) -> None:
        self.driver.get(path.as_uri())

    def run(self, code: str) -> Any:
        """The value of JavaScript such as `return document.title`."""
        return self.driver.execute_script(code)

    def press(self, *keys: str) -> None:
        """Sends keys to the element that has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, colours: str) -> None:
        """Sets the preferred colour scheme of the system, `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": colours}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def console(self) -> list[str]:
        """Errors and warnings since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """URLs requested since the last call, without `data:` URLs, which hold their content."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]

    def _log(self, name: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(name))

    def keep_screenshot(self, name: str) -> Path:
        """Saves the visible part of the page as an artefact of the test."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        path = ARTEFACTS / f"{name}.png"
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))
        return path


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """**Arguments:** `profile`: an empty folder for the browser's own files."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pages are not tested in a browser")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("no chromium: pages are not tested in a browser (scripts/dev/install_browser.sh installs one)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # Containers often have neither a sandbox nor shared memory for a browser; the tests open only their own pages.
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
    ):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "localhost,127.0.0.1")
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
