"""The page about units and classes is whole, safe and of bounded size."""

import re
from html.parser import HTMLParser
from pathlib import Path

from opsin.inspection.ablation import ablate
from opsin.inspection.units import unit_gallery
from opsin.report.inside.unit_sections import unit_sections
from opsin.report.templates import render_page
from tests.inspection.made_network import made


class Tags(HTMLParser):
    """Checks that what is opened is closed, and keeps all tags."""

    empty = frozenset(("img", "input", "option", "meta", "br", "link"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.empty:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.empty:
            assert self.open.pop() == tag


def test_each_unit_has_a_card_with_its_images(tmp_path: Path) -> None:
    classifier, network, known = made(tmp_path, count=300)
    gallery = unit_gallery(classifier, network, known, "relu")
    ablation = ablate(classifier, network, known, "relu")
    sections = unit_sections(gallery, ablation)
    assert [each.anchor for each in sections] == ["units-relu", "ablation-relu"]
    worst = ablation.effects[0]
    table = sections[1].html.split("Accuracy of each class without")[1]
    for accuracy in worst.accuracy_by_class.values():
        assert f"{accuracy:.4f}" in table.split(f'<th scope="row">{worst.unit}</th>')[1]
    page = Tags(render_page("made", "units", {}, sections))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    cut = sum(one.box != (0, 0, 6, 6) for unit in gallery for one in unit.best)
    assert cut
    assert len(images) == 4 * 9 + 4 * 9
    assert all(image["alt"] for image in images)
    assert all((image["src"] or "").startswith("data:image/") for image in images)
    html = sections[0].html
    assert re.findall(r"<h3>Unit (\d+)", html) == [str(effect.unit) for effect in ablation.effects]
    assert "cross <b>" not in html
    assert "cross &lt;b&gt;" in html
    # Nothing can be searched for without a script, so the box is hidden until it runs.
    assert re.search(r'class="units-search" hidden', html)
