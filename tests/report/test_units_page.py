"""The page about units and classes is whole, safe and of bounded size."""

import re
from pathlib import Path

from opsin.inspection.ablation import ablate
from opsin.inspection.units import unit_gallery
from opsin.report.inside.unit_sections import unit_sections
from opsin.report.templates import render_page
from tests.inspection.made_network import made


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
    images = re.findall(r"<img [^>]*>", render_page("made", "units", {}, sections))
    cut = sum(one.box != (0, 0, 6, 6) for unit in gallery.units for one in unit.best)
    assert cut
    assert len(images) == 4 * 9 + 4 * 9
    assert all(re.search(r' alt="[^"]+"', image) for image in images)
    assert all(' src="data:image/' in image for image in images)
    html = sections[0].html
    assert re.findall(r"<h3>Unit (\d+)", html) == [str(effect.unit) for effect in ablation.effects]
    assert "cross <b>" not in html
    assert "cross &lt;b&gt;" in html
    # Nothing can be searched for without a script, so the box is hidden until it runs.
    assert re.search(r'class="units-search" hidden', html)
