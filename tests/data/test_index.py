"""Lists of videos as people have them, and errors that name file and line."""

import os

import pytest

from pst_jax.data.index import read_class_names, read_csv, read_folder, read_index
from pst_jax.data.records import Listing, Record, fingerprint


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na/x.mp4,0\nb/y.mp4,2\n",
        "a/x.mp4,0\nb/y.mp4,2",
        "a/x.mp4 0\n\nb/y.mp4\t2\n",
        "\ufeffPath, Label\n a/x.mp4 , 0 \n./b/../b/y.mp4 ,2\r\n",
        'path label\n"a/x.mp4",0\nb/y.mp4 2\n',
    ],
)
def test_all_forms_of_a_list_read_the_same(text, tmp_path):
    records = read_csv(write(tmp_path / "list.csv", text))
    assert records == (
        Record(str(tmp_path / "a/x.mp4"), 0, "a/x.mp4"),
        Record(str(tmp_path / "b/y.mp4"), 2, "b/y.mp4"),
    )


def test_paths_may_hold_spaces_and_commas(tmp_path):
    text = 'my video 1.mp4 3\na b,c.mp4 4\n"x, ""y"".mp4",5\n'
    records = read_csv(write(tmp_path / "list.txt", text))
    assert [record.video_id for record in records] == [
        "my video 1.mp4",
        "a b,c.mp4",
        'x, "y".mp4',
    ]
    assert [record.label for record in records] == [3, 4, 5]


def test_paths_are_relative_to_the_root_given(tmp_path):
    source = write(tmp_path / "list.csv", f"x.mp4,0\n{tmp_path}/data/y.mp4,1\n")
    records = read_csv(source, root=tmp_path / "data")
    assert [record.path for record in records] == [
        str(tmp_path / "data/x.mp4"),
        str(tmp_path / "data/y.mp4"),
    ]
    assert [record.video_id for record in records] == ["x.mp4", "y.mp4"]


def test_a_video_listed_twice_has_two_ids(tmp_path):
    records = read_csv(write(tmp_path / "list.csv", "x.mp4,0\nx.mp4,1\nx.mp4,1\n"))
    assert [record.video_id for record in records] == ["x.mp4", "x.mp4#2", "x.mp4#3"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x.mp4,0\ny.mp4\n", 2, "has no label"),
        ("x.mp4,0\n\ny.mp4,\n", 3, "has no label"),
        (",3\n", 1, "has no label"),
        ("path,label\nx.mp4,cat\n", 2, "'cat' is not an integer"),
        ("x.mp4,1.0\n", 1, "'1.0' is not an integer"),
        ("x.mp4,1e3\n", 1, "'1e3' is not an integer"),
        ("x.mp4,1_0\n", 1, "'1_0' is not an integer"),
        ("x.mp4,\u0663\n", 1, "is not an integer"),
        (f"x.mp4,{'9' * 5000}\n", 1, f"'{'9' * 40}' is not an integer .of at most 9"),
        ("x.mp4,0,\n", 1, "has no label"),
        ("x.mp4;0\n", 1, "has no label: write 'path,label'"),
        ("video,class\nx.mp4,0\n", 1, "'class' is not an integer.*a header 'path,label'"),
        ("x.mp4,-1\n", 1, "label -1 is out of range"),
        ("x.mp4,4\n", 1, r"label 4 is out of range: allowed is 0 to 3"),
        ("x.mp4,0\n../y.mp4,0\n", 2, "leaves the data root"),
        ("a/../../y.mp4,0\n", 1, "leaves the data root"),
        ("/etc/y.mp4,0\n", 1, "leaves the data root"),
        (".,0\n", 1, "leaves the data root"),
        ("x.mp4,0\npath,label\n", 2, "'label' is not an integer"),
    ],
)
def test_a_bad_line_is_named(text, line, message, tmp_path):
    source = write(tmp_path / "list.csv", text)
    with pytest.raises(ValueError, match=message) as caught:
        read_csv(source, num_classes=4)
    assert str(caught.value).startswith(f"{source}:{line}:")


@pytest.mark.parametrize("text", ["", "\n\n", "path,label\n"])
def test_an_empty_list_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match=r"list\.csv: lists no video"):
        read_csv(write(tmp_path / "list.csv", text))


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)),
        "path,label\nx.mp4,0\n".encode("utf-16"),
        "path,label\nx.mp4,0\n".encode("utf-16-le"),
        "caf\xe9.mp4,0\n".encode("latin-1"),
    ],
)
def test_what_is_no_utf8_text_is_no_list(data, tmp_path):
    (tmp_path / "list.csv").write_bytes(data)
    message = r"list\.csv: cannot be read as a text file.*give lines 'path,label' as UTF-8"
    with pytest.raises(ValueError, match=message):
        read_csv(tmp_path / "list.csv")


def test_links_are_followed_out_of_the_root(tmp_path):
    # The data of many lie elsewhere; the name alone decides what leaves the root.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "videos").symlink_to(tmp_path / "elsewhere")
    source = write(tmp_path / "list.csv", "videos/x.mp4,0\n")
    (record,) = read_csv(source, root=tmp_path / "root")
    assert record.path == str(tmp_path / "root/videos/x.mp4")


def make_folder(root):
    for name in ("run/b.mp4", "run/a.WEBM", "jump/c.avi", "jump/notes.txt", ".git/d.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "empty").mkdir()
    return root


def test_a_folder_per_class_is_read_in_sorted_order(tmp_path):
    listing = read_folder(make_folder(tmp_path))
    records, class_names = listing.records, listing.class_names
    assert class_names == ("empty", "jump", "run")
    assert [(record.video_id, record.label) for record in records] == [
        ("jump/c.avi", 1),
        ("run/a.WEBM", 2),
        ("run/b.mp4", 2),
    ]
    assert records[0].path == str(tmp_path / "jump/c.avi")


def test_a_file_name_that_is_no_utf8_has_a_fingerprint(tmp_path):
    (tmp_path / "run").mkdir()
    open(os.fsencode(tmp_path / "run") + b"/caf\xe9.mp4", "w").close()
    records = read_folder(tmp_path).records
    assert os.path.exists(records[0].path) and fingerprint(records).startswith("1:")


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no <class>/<video>"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        read_folder(tmp_path / "none")


def test_the_kind_of_source_is_found(tmp_path):
    folder = make_folder(tmp_path / "videos")
    source = write(tmp_path / "list.csv", "videos/run/b.mp4,1\n")
    assert read_index(folder) == read_folder(folder)
    assert read_index(source) == Listing(read_csv(source))
    with pytest.raises(ValueError, match="does not exist"):
        read_index(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="3 class folders, but num_classes=2"):
        read_index(folder, num_classes=2)


def test_the_fingerprint_follows_content_and_order_not_place(tmp_path):
    text = "x.mp4,0\ny.mp4,1\n"
    (tmp_path / "moved").mkdir()
    here = read_csv(write(tmp_path / "list.csv", text))
    moved = read_csv(write(tmp_path / "moved" / "list.csv", text))
    assert here != moved and fingerprint(here) == fingerprint(moved)
    assert fingerprint(here).startswith("2:") and len(fingerprint(here)) == 2 + 64
    relabelled = (here[0], Record(here[1].path, 2, here[1].video_id))
    assert len({fingerprint(list_) for list_ in (here, here[::-1], here[:1], relabelled)}) == 4


def test_class_names_are_the_lines_and_no_more_than_classes(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("go left\ngo right\n")
    assert read_class_names(file, 3) == ("go left", "go right")
    with pytest.raises(ValueError, match="labels.txt: has 2 lines.*num_classes=1"):
        read_class_names(file, 1)
    file.write_text("same\nsame\n")
    with pytest.raises(ValueError, match="1 of them different"):
        read_class_names(file, 3)
    with pytest.raises(ValueError, match="nothing.txt"):
        read_class_names(tmp_path / "nothing.txt", 3)
