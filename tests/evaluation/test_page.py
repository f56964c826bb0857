import base64
import fnmatch
import html.parser
import pathlib
import re
import tomllib
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from pst_jax.evaluation import figures, page

ROOT = pathlib.Path(__file__).parents[2]
SECTIONS = ["headline", "results", "settings", "unreadable", "confusion", "classes", "worst"]
SECTIONS += ["learning", "curves"]
VOID = {"meta", "img", "br", "link", "input"}


class Page(html.parser.HTMLParser):
    """Parses a page: its text and pictures by section, its tables' rows, all its tags."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.stack, self.section, self.sections = [], [], None, []
        self.texts, self.images, self.rows, self.styles = {}, {}, {}, ""
        self.feed(text)
        self.close()
        assert not self.stack, f"left open: {self.stack}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag in ("section", "header"):
            self.section = attributes["id"]
            self.sections.append(self.section)
        if tag == "img":
            self.images.setdefault(self.section, []).append(attributes)
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "style":
            self.styles += data
            return
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if {"td", "th"} & set(self.stack):
            self.rows[self.section][-1][-1] += data

    def text(self, section):
        return re.sub(r"\s+", " ", self.texts.get(section, ""))


CONFUSION = [[6, 3, 1], [0, 10, 0], [2, 2, 1]]


def make_report(**changes):
    row = {"average": "prob", "num_views": 25, "top1": 0.68, "top5": 1.0, "mean_class": 0.6}
    return {
        "model": "pst_testing",
        "run": "my run",
        "top1": 0.68,
        "top5": 1.0,
        "mean_class": 0.6,
        "within_pair": 0.912,
        "top1_shuffled": 0.345,
        "within_pair_shuffled": 0.501,
        "top1_unreadable_wrong": 0.6296,
        "per_class": [0.6, 1.0, 0.2],
        "evaluations": [
            {"views": "1x1", "within_pair": 0.912, **row},
            {"views": "4x3", "within_pair": 0.934, **row, "num_views": 300, "top1": 0.721},
            {"views": "4x3", "within_pair": 0.945, **row, "average": "logit", "top1": 0.733},
        ],
        "confusion": CONFUSION,
        "class_names": ["left", "right", "up"],
        "views": "1x1",
        "average": "prob",
        "num_videos": 27,
        "num_views": 25,
        "num_unreadable": 2,
        "unreadable": ["a.mp4: no such file", "b.mp4: 0 bytes"],
        "replaced_in_training": ["step 3: c.mp4: is cut off"],
        "params": 224648,
        "gflops": 0.08936,
        "ms_per_clip": 3.8331,
        "step": 1200,
        "seed": 3,
        "config_hash": "c0ffee",
        "fingerprint": "27:" + "ab" * 32,
        "fingerprint_train": "4800:" + "cd" * 32,
        "device": "1 x cpu",
        "versions": {"jax": "0.10.2", "python": "3.11.7"},
        "against": "twin",
    } | changes


HISTORY = [
    {"step": 10, "split": "train", "loss": 2.5, "top1": 0.1, "learning_rate": 1e-3},
    {"step": 20, "split": "train", "loss": 1.5, "top1": 0.5, "learning_rate": 1e-4},
    {"step": 20, "split": "test", "top1": 0.4, "top5": 0.9},
]


def frames(num_frames=16, size_px=28):
    shape = (num_frames, size_px, size_px, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def clips(number=2, video_id="clip"):
    return [page.SeenClip(f"{video_id}{i}", 0, 1, 0.123, 0.789, frames()) for i in range(number)]


def frame_curves(**runs):
    runs = runs or {"pst": np.linspace(0, 1, 8), "twin": np.full(16, 0.3)}
    return page.FrameCurves("seen.mp4", 2, frames(), runs)


def rendered(report=None, history=(), worst=(), curves=()):
    return page.render(report or make_report(), history, worst, curves)


def rendered_in_full():
    return rendered(None, HISTORY, clips(), [frame_curves()])


@pytest.fixture(scope="module")
def full():
    return Page(rendered_in_full())


def test_the_sections_come_in_order_each_with_its_pictures(full):
    assert full.sections == SECTIONS
    numbers = {section: len(images) for section, images in full.images.items()}
    assert numbers == {"confusion": 1, "worst": 2, "learning": 1, "curves": 2}
    assert all(image["alt"] for images in full.images.values() for image in images)


def test_the_headline_names_run_and_model_and_their_figures(full):
    text = full.text("headline")
    for part in ("my run", "pst_testing", "27 test videos", "1,200", "68.0 %", "60.0 %", "91.2 %"):
        assert part in text
    report = make_report()
    del report["run"], report["within_pair"]
    text = Page(rendered(report)).text("headline")
    assert text.strip().startswith("pst_testing") and "within pairs" not in text


def test_the_results_have_a_row_per_evaluation_and_one_for_shuffled_frames(full):
    assert full.rows["results"] == [
        ["each video", "averaged by", "views"]
        + ["top-1 %", "top-5 %", "mean of classes %", "within pairs %"],
        ["1 clip × 1 crop", "mean of probabilities", "25", "68.0", "100.0", "60.0", "91.2"],
        ["1 clip × 1 crop, frames shuffled", "mean of probabilities", "25"]
        + ["34.5", "–", "–", "50.1"],
        ["4 clips × 3 crops", "mean of probabilities", "300", "72.1", "100.0", "60.0", "93.4"],
        ["4 clips × 3 crops", "mean of logits", "25", "73.3", "100.0", "60.0", "94.5"],
    ]


def test_without_pairs_and_shuffling_the_results_do_without_them():
    report = make_report()
    for key in ("within_pair", "within_pair_shuffled", "top1_shuffled"):
        del report[key]
    for row in report["evaluations"]:
        del row["within_pair"]
    seen = Page(rendered(report))
    assert [len(row) for row in seen.rows["results"]] == [6] * 4
    assert "pairs" not in seen.text("results") and "huffled" not in seen.text("results")


def test_the_headline_has_a_row_even_where_no_evaluation_is_its_own():
    others = make_report()["evaluations"][1:]
    for evaluations in (others, [], None):
        rows = Page(rendered(make_report(evaluations=evaluations))).rows["results"]
        assert len(rows) == 3 + len(evaluations or [])
        assert rows[1][0] == "1 clip × 1 crop" and rows[2][0].endswith("shuffled")


def test_the_settings_say_what_made_the_figures(full):
    rows = dict(full.rows["settings"])
    assert rows["hash of the config"] == "c0ffee"
    assert rows["test videos"].startswith("27,") and rows["test videos"].endswith("ab" * 32)
    assert rows["training videos"].startswith("4,800,")
    assert rows["seed"] == "3" and rows["training step"] == "1,200"
    assert rows["parameters"] == "224,648" and rows["device"] == "1 x cpu"
    assert rows["versions"] == "jax 0.10.2, python 3.11.7" and rows["compared with"] == "twin"
    assert "0.089" in rows.values() and "3.83" in rows.values()
    assert "compared with" not in dict(Page(rendered(make_report(against=None))).rows["settings"])


def test_unreadable_videos_are_named_and_counted_as_wrong(full):
    text = full.text("unreadable")
    assert "2 of 27" in text and "63.0 % top-1" in text
    assert "a.mp4: no such file" in text and "b.mp4: 0 bytes" in text
    assert "In training 1 clips were replaced" in text and "step 3: c.mp4: is cut off" in text
    report = make_report(num_unreadable=0, unreadable=[], replaced_in_training=[])
    text = Page(rendered(report)).text("unreadable")
    assert "all 27 could be read" in text and "63.0" not in text and "replaced" not in text
    many = [f"{i}.mp4: gone" for i in range(130)]
    text = Page(rendered(make_report(num_unreadable=130, unreadable=many))).text("unreadable")
    assert "99.mp4" in text and "100.mp4" not in text and "30 more" in text


def test_confused_pairs_come_most_often_first():
    # Row 0: 3 of 10 as 1, 1 of 10 as 2. Row 2: 2 of 5 as 0, 2 of 5 as 1.
    assert page.confused_pairs(CONFUSION) == [
        (0, 1, 3, 0.3),
        (2, 0, 2, 0.4),
        (2, 1, 2, 0.4),
        (0, 2, 1, 0.1),
    ]
    assert page.confused_pairs(CONFUSION, limit=1) == [(0, 1, 3, 0.3)]
    # Equal numbers: the larger share first; a class without videos is in no pair.
    uneven = [[8, 2, 0], [2, 2, 0], [0, 0, 0]]
    assert page.confused_pairs(uneven) == [(1, 0, 2, 0.5), (0, 1, 2, 0.2)]
    assert page.confused_pairs(np.zeros((3, 3), int)) == []
    assert page.confused_pairs(np.diag([3, 0, 9])) == []


def test_the_most_confused_pairs_are_named_at_most_ten(full):
    assert full.rows["confusion"][1:] == [
        ["left", "right", "3", "30.0"],
        ["up", "left", "2", "40.0"],
        ["up", "right", "2", "40.0"],
        ["left", "up", "1", "10.0"],
    ]
    text = rendered(make_report(confusion=np.ones((5, 5), int).tolist(), per_class=[0.2] * 5))
    assert len(Page(text).rows["confusion"]) == 11
    seen = Page(rendered(make_report(confusion=np.diag([3, 3, 3]).tolist()), worst=[]))
    assert "No class was taken for another" in seen.text("confusion")
    assert "No video that could be read was wrong" in seen.text("worst")


def listed(seen):
    return re.findall(r"(\d+) ?(left|right|up|class \d+)", seen.text("classes"))


def test_classes_are_listed_worst_first_and_those_without_videos_last(full):
    assert [name for _, name in listed(full)] == ["up", "left", "right"]
    assert "60.0" in full.text("classes") and "6 / 10" in full.text("classes")
    widths = [a["style"] for tag, a in full.tags if tag == "i"]
    assert widths == ["width:20.00%", "width:60.00%", "width:100.00%"]
    for missing in (None, float("nan")):
        seen = Page(rendered(make_report(per_class=[missing, 1.0, 0.2])))
        assert [name for _, name in listed(seen)] == ["up", "right", "left"]
        assert "no video" in seen.text("classes") and "nan" not in seen.text("classes").lower()


def test_many_classes_are_folded_and_go_by_number_in_the_matrix():
    num_classes = 174
    report = make_report(
        confusion=np.roll(np.eye(num_classes, dtype=int), 1, axis=1).tolist(),
        per_class=[0.0] * num_classes,
        class_names=[f"something {k}" for k in range(num_classes)],
    )
    seen = Page(rendered(report))
    assert "The other 114 classes" in seen.text("classes")
    assert all(f"something {k}" in seen.text("classes") for k in range(num_classes))
    assert seen.rows["confusion"][1] == ["0 something 0", "1 something 1", "1", "100.0"]
    assert "go by their numbers" in seen.text("confusion")


def test_classes_without_names_go_by_number():
    seen = Page(rendered(make_report(class_names=None)))
    assert seen.rows["confusion"][1][:2] == ["class 0", "class 1"]
    assert page.class_names(make_report(class_names=["a"])) == ["a", "class 1", "class 2"]
    with pytest.raises(ValueError, match="4 names for 3 classes"):
        rendered(make_report(class_names=list("abcd")))


def test_wrong_clips_are_shown_as_the_model_saw_them():
    seen = Page(rendered(worst=clips(11)))
    images, text = seen.images["worst"], seen.text("worst")
    assert len(images) == 8 and "clip7" in text and "clip8" not in text
    assert "true: left (12.3 %) → predicted: right (78.9 %)" in text
    assert images[0]["src"] == figures.strip(frames())[0]
    assert "16 frames" in images[0]["alt"] and "magnified" in images[0]["class"]
    large = [page.SeenClip("large", 0, 1, 0.1, 0.9, frames(4, 224))]
    (image,) = Page(rendered(worst=large)).images["worst"]
    assert "magnified" not in image["class"] and f"{4 * 84}px" in image["style"]
    assert "no video was wrong" not in text
    assert "no video was wrong; 8 of the headline's were" in Page(rendered()).text("worst")


def test_without_history_and_curves_the_page_says_so_or_leaves_them_out():
    seen = Page(rendered())
    assert seen.sections == SECTIONS[:-1] and "learning" not in seen.images
    assert "No metrics" in seen.text("learning")


def test_frames_stand_above_their_place_on_the_axis_and_runs_are_told_apart():
    seen = Page(rendered(curves=[frame_curves(), frame_curves(twin=np.array([0.5, np.nan]))]))
    strip, plot, _, _ = seen.images["curves"]
    assert "margin-left:7.0%;width:92.0%" in strip["style"]
    assert (figures.AXIS_LEFT, figures.AXIS_WIDTH) == (0.07, 0.92)
    assert plot["src"].startswith("data:image/svg+xml")
    text = seen.text("curves")
    assert "seen.mp4: up" in text and "● pst ■ twin - - chance (33.3 %)" in text
    assert "■ twin - - chance" in text.split("seen.mp4: up")[2], "a run keeps its line"


EVIL = '<script>alert("x")</script>&amp;'


def test_names_are_shown_as_text_whatever_they_hold():
    report = make_report(
        run=EVIL,
        model=EVIL,
        against=EVIL,
        device=EVIL,
        class_names=[EVIL, "b", "c"],
        unreadable=[EVIL],
        versions={EVIL: EVIL},
    )
    report["evaluations"][2]["average"] = EVIL
    curves = [page.FrameCurves(EVIL, 0, frames(), {EVIL: np.ones(4)})]
    seen = Page(rendered(report, worst=clips(video_id=EVIL), curves=curves))
    assert "script" not in {tag for tag, _ in seen.tags}
    for section in set(SECTIONS) - {"learning"}:
        assert EVIL in seen.text(section), section
    assert seen.images["worst"][0]["alt"].endswith(f"{EVIL}0")


def test_names_that_no_document_can_hold_are_replaced():
    odd = "a\x00\x1b\udcffb\uffff"  # \udcff: how Python reads a file name that is no UTF-8
    report = make_report(run=odd, class_names=[odd, "b", "c"], unreadable=[odd])
    curves = [page.FrameCurves(odd, 0, frames(), {odd: np.ones(4)})]
    seen = Page(rendered(report, worst=clips(video_id=odd), curves=curves).encode().decode())
    for section in ("headline", "unreadable", "worst", "curves", "classes"):
        assert "a\ufffd\ufffd\ufffdb\ufffd" in seen.text(section)
    ElementTree.fromstring(content(seen.images["confusion"][0]["src"]))


def content(uri):
    return base64.b64decode(uri.partition(";base64,")[2], validate=True)


def test_the_page_needs_nothing_else(full):
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in full.tags}
    names = {"src", "href", "srcset", "poster", "action", "data", "background"}
    links = [v for _, attributes in full.tags for k, v in attributes.items() if k in names]
    assert len(links) == 6 and all(link.startswith("data:image/") for link in links)
    inline = full.styles + "".join(attributes.get("style", "") for _, attributes in full.tags)
    assert "{" in inline and not re.search(r"url\(|@import|//", inline)
    for link in links:
        if "svg" in link[:20]:
            for element in ElementTree.fromstring(content(link)).iter():
                for key, value in element.attrib.items():
                    if key.endswith("href"):
                        assert value.startswith(("#", "data:")), value


def test_the_same_inputs_give_the_same_page():
    assert rendered_in_full() == rendered_in_full()
    assert rendered() != rendered(make_report(top1=0.5))


def test_figures_that_are_missing_or_not_finite_are_dashes():
    report = make_report(mean_class=float("nan"), within_pair_shuffled=None)
    report["evaluations"][0]["top5"] = None
    seen = Page(rendered(report))
    assert seen.rows["results"][1][4] == "–" and seen.rows["results"][2][-1] == "–"
    assert not re.search(r"\bnan\b|None\b(?!:)", seen.text("results") + seen.text("headline"))


def test_the_page_of_the_demonstration_is_small():
    report = make_report(
        confusion=np.full((16, 16), 40).tolist(), per_class=[0.5] * 16, class_names=None
    )
    assert len(rendered(report, worst=clips(8), curves=[frame_curves()] * 4)) < 1_000_000


def test_the_template_is_packaged():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = pyproject["tool"]["setuptools"]["package-data"]["pst_jax.evaluation"]
    assert any(fnmatch.fnmatch("page.html.jinja", pattern) for pattern in patterns)
