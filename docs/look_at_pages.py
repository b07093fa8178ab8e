"""Look at every built page in a real browser: take pictures, and find what is broken.

    python docs/look_at_pages.py [PATTERN ...] [--site docs/_build/html]
        [--pictures docs/_build/pictures]

Each page is shown on a desk and on a phone, light and dark. It fails, and prints
the page and the element, if a page or a table is wider than the screen, a picture
does not load, or a script fails. A PATTERN such as `howto/*` chooses pages.

It needs Chromium with its driver (on Debian: `apt-get install chromium
chromium-driver`) and selenium, and it touches no network.
"""

import argparse
import base64
import fnmatch
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from selenium import webdriver
from tqdm import tqdm

HERE = Path(__file__).parent
# Chromium draws no picture that is longer.
LONGEST = 12_000

# What a reader cannot see, or must move the page sideways to see. Blocks of code may scroll.
FAULTS = """
const found = [];
const name = (element) => {
    const words = (element.innerText || element.alt || "").trim().replace(/\\s+/g, " ");
    const classes = [...element.classList].map((one) => "." + one).join("");
    return `${element.tagName.toLowerCase()}${classes} '${words.slice(0, 60)}'`;
};
const scrolls = (element) => {
    for (let box = element.parentElement; box.tagName !== "ARTICLE"; box = box.parentElement)
        if (getComputedStyle(box).overflowX !== "visible") return true;
    return false;
};
// On a phone the theme lets the text scroll within the page.
for (const box of document.querySelectorAll("html, .content"))
    if (box.scrollWidth > box.clientWidth) {
        found.push(`is ${box.scrollWidth} pixels wide, not ${box.clientWidth}`);
        for (const element of document.querySelectorAll("article *"))
            if (element.getBoundingClientRect().right > box.clientWidth + 1 && !scrolls(element))
                found.push(`reaches beyond the screen: ${name(element)}`);
    }
for (const table of document.querySelectorAll("article table")) {
    const box = table.parentElement;
    if (table.scrollWidth > box.clientWidth + 1)
        found.push(`cut by ${table.scrollWidth - box.clientWidth} pixels: ${name(table)}`);
}
for (const image of document.images)
    if (image.checkVisibility() && !image.naturalWidth)
        found.push(`does not load: ${image.getAttribute("src")}`);
return found;
"""


class Setting(NamedTuple):
    """How a reader looks at a page: the width of the screen in pixels, and its colours."""

    width: int
    colours: str

    def __str__(self) -> str:
        return f"{self.width}-{self.colours}"


SETTINGS = [Setting(width, colours) for width in (1280, 390) for colours in ("light", "dark")]


def open_browser() -> webdriver.Chrome:
    """Start the Chromium of this machine without a window."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        sys.exit("Chromium or its driver is missing: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # In a container there is often no sandbox, and little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def choose(browser: webdriver.Chrome, setting: Setting) -> None:
    """Show the page as a screen of this width and these colours does."""
    screen = {"width": setting.width, "height": 900, "deviceScaleFactor": 1}
    screen["mobile"] = setting.width < 600
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    colours = {"features": [{"name": "prefers-color-scheme", "value": setting.colours}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", colours)


def take_picture(browser: webdriver.Chrome, file: Path) -> None:
    """Write a picture of the whole page."""
    height = browser.execute_script("return document.documentElement.scrollHeight")
    width = browser.execute_script("return document.documentElement.clientWidth")
    clip = {"x": 0, "y": 0, "scale": 1, "width": width, "height": min(height, LONGEST)}
    options = {"captureBeyondViewport": True, "clip": clip, "format": "jpeg", "quality": 80}
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(picture["data"]))


def look_at(browser: webdriver.Chrome, page: Path, pictures: Path) -> Iterator[str]:
    """Take the pictures of a page, and yield each fault with the settings that show it."""
    settings: dict[str, list[str]] = {}
    for setting in SETTINGS:
        choose(browser, setting)
        browser.get(page.as_uri())
        faults = browser.execute_script(FAULTS)
        take_picture(browser, pictures / f"{setting}.jpg")
        faults += [f"fails: {entry['message']}" for entry in browser.get_log("browser")]
        for fault in faults:
            settings.setdefault(fault, []).append(str(setting))
    for fault, where in settings.items():
        yield f"({', '.join(where)}) {fault}"


def main(argv: Sequence[str] | None = None) -> int:
    """Look at the pages, print their faults, and return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN")
    parser.add_argument("--site", type=Path, default=HERE / "_build" / "html")
    parser.add_argument("--pictures", type=Path, default=HERE / "_build" / "pictures")
    options = parser.parse_args(argv)
    site = options.site.resolve()
    pages = [
        page
        for page in sorted(site.rglob("*.html"))
        if any(fnmatch.fnmatch(str(page.relative_to(site)), one) for one in options.patterns)
    ]
    if not pages:
        sys.exit(f"there are no such pages in {site}: build them with `nox -s docs`")
    num_faults = 0
    browser = open_browser()
    try:
        for page in tqdm(pages, unit="page", disable=None):
            name = page.relative_to(site).with_suffix("")
            for fault in look_at(browser, page, options.pictures / name):
                tqdm.write(f"{name} {fault}")
                num_faults += 1
    finally:
        browser.quit()
    print(f"{len(pages)} pages, {num_faults} faults; pictures are in {options.pictures}")
    return 1 if num_faults else 0


if __name__ == "__main__":
    sys.exit(main())
