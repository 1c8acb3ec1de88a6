"""The page around the pictures."""

from html.parser import HTMLParser

from crkd_core.visualization.page import CurvesEntry, PictureEntry, ScoreEntry, write_page


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.cells = [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_data(self, data):
        if data.strip():
            self.cells.append(data.strip())


def test_page_refers_to_the_pictures_and_escapes_text(tmp_path):
    path = tmp_path / "index.html"
    pictures = [PictureEntry(f"{n}.png", f"token{n}", "scene-0103", "rain <b> & night") for n in range(2)]
    curves = [CurvesEntry("training.png", "crkd & more")]
    write_page(path, "val", pictures, [ScoreEntry("crkd", "camera + radar", 0.4671, None)], curves)
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.images == ["0.png", "1.png", "training.png"]
    assert "Training of crkd & more" in reader.cells
    assert "0.467" in reader.cells
    assert "rain <b> & night" in reader.cells
