"""What axe-core finds wrong on a page: https://github.com/dequelabs/axe-core."""

from pathlib import Path

import pytest
from selenium import webdriver

AXE = Path(__file__).parents[1] / ".venv-node" / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: make node")

_RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(found => done(found.violations.map(
  rule => `${rule.id}: ${rule.help}: ` + rule.nodes.map(node => node.html.slice(0, 160)).join(" | ")
)));
"""


def prefer(browser: webdriver.Chrome, scheme: str) -> None:
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)


def violations(browser: webdriver.Chrome) -> list[str]:
    """Return each rule that the page breaks, with the elements that break it."""
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found: list[str] = browser.execute_async_script(_RUN)
    return found
