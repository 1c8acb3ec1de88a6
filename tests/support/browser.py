"""A headless Chromium, where there is one."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_MEASURE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<style>iframe {border: 0; height: 900px}</style>%s
<pre id="result"></pre><script>
addEventListener("load", () => {
  const views = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    page.querySelectorAll("details").forEach(folded => folded.open = true);
    const wide = [...page.body.querySelectorAll("*")].filter(part =>
      part.getBoundingClientRect().right > root.clientWidth + 1 && !part.closest(".scroll"));
    const cut = [...page.querySelectorAll("td, th, figcaption, dd, h1, h2, h3, li")].filter(part =>
      part.scrollWidth > part.clientWidth + 1 && !part.closest(".scroll") && part.clientWidth > 0);
    return {width: root.clientWidth, needed: root.scrollWidth, images: page.images.length,
      broken: [...page.images].filter(image => !image.complete || !image.naturalWidth).length,
      wide: wide.map(part => part.outerHTML.slice(0, 80)), cut: cut.map(part => part.outerHTML.slice(0, 80)),
      colour: getComputedStyle(page.body).backgroundColor};
  });
  document.getElementById("result").textContent = JSON.stringify(views);
});
</script>"""


@dataclass(frozen=True)
class View:
    """A page as a window of some width lays it out; everything folded is open.

    Attributes:
        width, needed: of the window, and of what is in it, pixels.
        images, broken: how many, and how many of them did not load.
        wide, cut: elements that reach beyond the window, and whose text does not fit them.
        colour: of the background.
    """

    width: int
    needed: int
    images: int
    broken: int
    wide: list[str]
    cut: list[str]
    colour: str


def open_page(page: Path, folder: Path, widths: tuple[int, ...], dark: bool = False) -> tuple[list[View], list[str]]:
    """Views of a page, one for each width, and what the browser complained of; skips where there is no browser.

    Args:
        folder: for the browser's own files.
    """
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    frames = "".join(f'<iframe src="{page.as_uri()}" style="width:{width}px"></iframe>' for width in widths)
    measure = folder / "measure.html"
    measure.write_text(_MEASURE % frames, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--allow-file-access-from-files", "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=5000", "--dump-dom",
        measure.as_uri(),
    ]  # fmt: skip
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{browser} does not run here: {error}")
    measured = re.search(r'<pre id="result">(.+?)</pre>', result.stdout, re.DOTALL)
    if measured is None:
        pytest.skip(f"{browser} does not run here: {result.stderr[-300:]}")
    complaints = [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
    text = measured[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return [View(**view) for view in json.loads(text)], complaints
