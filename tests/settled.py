"""Pages that stand still: all that a reader waits for is there."""

import time
from typing import Final

from selenium import webdriver

# Words, and the images and drawings that are in the window.
_STATE: Final = """
const shown = [...document.images].filter(each => {
  const box = each.getBoundingClientRect();
  return box.bottom > 0 && box.top < innerHeight && box.width > 0;
});
return document.readyState + '|' + document.body.innerText.length + '|' + shown.length + '|' +
  shown.filter(each => each.complete).length + '|' +
  document.querySelectorAll('canvas, svg').length;
"""


def usable(
    browser: webdriver.Chrome,
    address: str,
    *,
    quiet: float = 0.5,
    most: float = 20.0,
    every: float = 0.1,
) -> float:
    """Open an address, and wait until the page stands still."""
    began = time.perf_counter()
    browser.get(address)
    last, state = time.perf_counter(), ""
    while (now := time.perf_counter()) - last < quiet and now - began < most:
        seen = str(browser.execute_script(_STATE))
        if seen != state:
            last, state = time.perf_counter(), seen
        time.sleep(every)
    return last - began
