"""What somebody does in the studio, in real Chromium, with every action counted."""

import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser import resize
from tests.studio_browser import StudioProcess, press, shown, until

#: Flags of a browser with a fake camera, which it may use.
FAKE: Final = ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")


class Visit:
    def __init__(
        self,
        running: StudioProcess,
        browser: webdriver.Chrome,
        actions: int = 0,
        began: float | None = None,
    ) -> None:
        self.running, self.browser, self.actions = running, browser, actions
        self.began = time.monotonic() if began is None else began

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.began, 1)

    def find(self, path: str) -> WebElement:
        return self.browser.find_element(By.XPATH, path)

    def line(self, words: str) -> str:
        return next(line for line in shown(self.browser).splitlines() if words in line)

    def open(self, path: str = "/") -> None:
        """Follow the printed link; its code is used up, and the browser has its cookie."""
        self.actions += path == "/"
        resize(self.browser, 1280)
        self.browser.get(self.running.address + path)

    def click(self, words: str, inside: str = "") -> None:
        kinds = "self::button or self::a or contains(@class, 'q-item')"
        path = f"{inside}//*[{kinds}][contains(normalize-space(.), '{words}')][not(@disabled)]"
        self.until(lambda: self.browser.find_element(By.XPATH, path).is_displayed())

        def clicked() -> bool:
            self.find(path).click()
            return True

        self.until(clicked)
        self.actions += 1

    def give(self, *files: Path, to: str = "//input[@type='file']") -> None:
        self.until(lambda: self.browser.find_elements(By.XPATH, to))
        self.browser.find_element(By.XPATH, to).send_keys("\n".join(map(str, files)))
        self.actions += 1

    def write(self, text: str, field: str) -> None:
        self.until(lambda: self.browser.find_elements(By.XPATH, field))
        element = self.browser.find_element(By.XPATH, field)
        element.send_keys(Keys.CONTROL, "a", Keys.NULL, text)
        time.sleep(0.3)  # as a hand does before it reaches the key
        element.send_keys(Keys.ENTER)
        self.actions += 1

    def hold(self, inside: str, seconds: float) -> None:
        path = f"{inside}//button[contains(., 'Hold to record')]"
        self.until(lambda: self.browser.find_elements(By.XPATH, path))
        time.sleep(1)  # the camera's first picture
        button = self.browser.find_element(By.XPATH, path)
        ActionChains(self.browser).click_and_hold(button).pause(seconds).release().perform()
        self.actions += 1

    def until(self, holds: Callable[[], object], seconds: float = 180) -> None:
        until(self.browser, holds, seconds)

    def says(self, words: str) -> None:
        self.until(lambda: words in shown(self.browser))

    def reach(self, page: str) -> None:
        self.until(lambda: page in self.browser.current_url)

    def see(self, path: str, words: str = "") -> None:
        self.until(lambda: words in self.find(path).text)


def column(name: str) -> str:
    """Where a class is on the photographs' page."""
    return f"//section[contains(@aria-label, '{name}')]"


def name_classes(visit: Visit, classes: Sequence[str]) -> None:
    """Begin without photographs: name the two classes that there are then, and add a third."""
    visit.open()
    visit.click("Use the camera")
    for number, name in enumerate(classes[:2], start=1):
        press(visit.browser, f"Class {number}")
        visit.write(name, f"{column(f'Class {number}')}//input[@aria-label='Name']")
    visit.click("Add class")
    visit.write(classes[2], "//div[@role='dialog']//input")


#: The group of photographs that keys name, on the page for sorting.
ACTIVE: Final = "//*[contains(@class, 'groups')]//*[contains(@class, 'active')]"


def group(browser: webdriver.Chrome) -> list[str]:
    found = browser.find_elements(By.CSS_SELECTOR, ".groups .active .gallery-item")
    return [str(each.get_attribute("aria-label")) for each in found]


def asked(browser: webdriver.Chrome) -> str:
    return str(browser.find_element(By.CSS_SELECTOR, ".photo").get_attribute("alt"))


def name_groups(visit: Visit, kind: Callable[[str], str], count: int) -> list[str]:
    """Name groups by what most are, and take others out; return the classes.

    The first group of a class is named by typing, others by its key.
    """
    names: list[str] = []
    for _ in range(count):
        visit.until(lambda: group(visit.browser))
        shown_now = group(visit.browser)
        kinds = [kind(photo) for photo in shown_now]
        name = max(kinds, key=kinds.count)
        for odd in [photo for photo in shown_now if kind(photo) != name]:
            visit.until(partial(_taken_out, visit.browser, odd))
            visit.actions += 1
        first = group(visit.browser)[0]
        if name in names:
            ActionChains(visit.browser).send_keys(str(sorted(names).index(name) + 1)).perform()
            visit.actions += 1
        else:
            visit.write(name, f"{ACTIVE}//input")
            names.append(name)
            visit.browser.execute_script("document.activeElement.blur()")
        visit.until(partial(_is_away, visit.browser, first))
    return sorted(names)


def _taken_out(browser: webdriver.Chrome, photo: str) -> bool:
    for each in browser.find_elements(By.CSS_SELECTOR, ".groups .active .gallery-item"):
        if each.get_attribute("aria-label") == photo:
            each.click()
            return False
    return True


def _is_away(browser: webdriver.Chrome, photo: str) -> bool:
    return photo not in group(browser)


def answer_questions(
    visit: Visit, kind: Callable[[str], str], classes: Sequence[str], count: int
) -> float:
    """Answer by keys, and take one answer back; return the slowest one's seconds.

    A photograph of no class that has a name is one of none of the classes. It ends early where
    all are answered.
    """
    slowest = 0.0
    for number in range(count):
        name = asked(visit.browser)
        key = str(classes.index(kind(name)) + 1) if kind(name) in classes else "x"
        began = time.monotonic()
        ActionChains(visit.browser).send_keys(key).perform()
        while asked(visit.browser) == name:
            if time.monotonic() > began + 10 and "nothing to ask" in shown(visit.browser):
                return round(slowest, 3)
            assert time.monotonic() < began + 60, shown(visit.browser)
        slowest = max(slowest, time.monotonic() - began)
        visit.actions += 1
        if number == 3:
            ActionChains(visit.browser).send_keys("u").perform()
            visit.see(f"//img[contains(@class, 'photo')][@alt='{name}']")
    return round(slowest, 3)


def film(photos: Path) -> str:
    """The flag of a fake camera that sees each photograph for a fifth of a second.

    It is held as the first photograph's camera was, so that nothing is cut away.
    """
    path, files = photos.with_suffix(".mjpeg"), sorted(photos.iterdir())
    wide, tall = Image.open(files[0]).size
    size = (640, 480) if wide > tall else (480, 640)
    with path.open("wb") as file:
        for photo in files:
            frame = io.BytesIO()
            ImageOps.fit(Image.open(photo).convert("RGB"), size).save(frame, "JPEG")
            file.write(6 * frame.getvalue())
    return f"use-file-for-fake-video-capture={path}"
