"""Lists of videos as people have them, and errors that name file and line."""

import importlib.util
import json
import os

import layouts
import pytest
from etils import epath
from etils.epath.backend import fsspec_backend
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.index import (
    read_class_names,
    read_csv,
    read_dataset,
    read_folder,
    read_index,
)
from pst_jax.data.records import Listing, Record, fingerprint
from pst_jax.data.sources import open_record


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


def pairs(listing):
    return [(record.video_id, record.label) for record in listing.records]


def test_parts_of_files_are_records_of_their_own(tmp_path):
    expected = layouts.csv_list(tmp_path)
    listings = read_dataset(tmp_path)
    assert {split: pairs(listing) for split, listing in listings.items()} == expected
    first, second, *_, whole = listings["train"].records
    assert (first.start_s, first.end_s) == (0.0, 0.25)  # 8 frames at 16 fps
    assert (second.start_s, second.end_s) == (0.25, None)
    assert (whole.start_s, whole.end_s) == (0.0, None)
    with open_record(first) as video, open_record(second) as rest:
        assert (video.num_frames, rest.num_frames) == (4, 4)


@pytest.mark.parametrize(
    "text",
    [
        'Path,Label,Start,End\nx.mp4,3,1.5,2\ny.mp4,0,,\n"a,b.mp4",1,,4.25\n',
        'x.mp4, 3, 1.5, 2\ny.mp4,0\n"a,b.mp4",1,0,4.25\n',
    ],
)
def test_times_are_read_with_a_header_and_without(text, tmp_path):
    records = read_csv(write(tmp_path / "list.csv", text))
    assert [(r.video_id, r.label, r.start_s, r.end_s) for r in records] == [
        ("x.mp4", 3, 1.5, 2.0),
        ("y.mp4", 0, 0.0, None),
        ("a,b.mp4", 1, 0.0, 4.25),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x.mp4,0", "must be 'path,label,start,end'"),
        ("x.mp4,0,a,2", "start 'a' and end '2' must be seconds"),
        ("x.mp4,0,-1,2", "start '-1' and end '2' must be seconds"),
        ("x.mp4,0,2,1.5", r"end 1.5 s must be later than start 2.0 s"),
        ("x.mp4,cat,0,1", "'cat' is not an integer"),
    ],
)
def test_bad_times_are_named(line, message, tmp_path):
    source = write(tmp_path / "list.csv", f"path,label,start,end\n{line}\n")
    with pytest.raises(ValueError, match=f"list.csv:2: .*{message}"):
        read_csv(source)


def test_folders_of_frames_are_told_by_being_there(tmp_path):
    for number in range(2):
        layouts.write_images(tmp_path / "frames" / f"v {number}", layouts.frames_of(number))
    text = "frames/v 0 8 3\nframes/v 1 13 0\n"
    records = read_csv(write(tmp_path / "list.txt", text))
    assert [(r.video_id, r.num_frames, r.label) for r in records] == [
        ("frames/v 0", 8, 3),
        ("frames/v 1", 13, 0),
    ]
    with open_record(records[1]) as video:
        assert len(video.read(range(13), as_it_is)) == 13
    (wrong,) = read_csv(write(tmp_path / "wrong.txt", "frames/v 0 9 3\n"))
    with pytest.raises(VideoError, match="has 8 frames, 9 by"), open_record(wrong):
        pass
    # Where no such folder is, the same text lists files: the path has spaces.
    (record, _) = read_csv(tmp_path / "list.txt", root=tmp_path / "none")
    assert (record.video_id, record.label, record.num_frames) == ("frames/v 0 8", 3, None)


def test_a_class_folder_may_hold_folders_of_frames(tmp_path):
    expected = layouts.class_folders(tmp_path)
    listings = read_dataset(tmp_path)
    assert {split: pairs(listing) for split, listing in listings.items()} == expected
    assert listings["test"] == read_index(tmp_path / "test")
    for record in listings["train"].records:
        with open_record(record) as video:
            assert video.num_frames == len(
                layouts.frames_of(int(record.path.removesuffix(".mp4")[-2:]))
            )
    with pytest.raises(ValueError, match="holds train, test: give one of them"):
        read_index(tmp_path)


def test_splits_of_different_classes_are_refused(tmp_path):
    layouts.class_folders(tmp_path)
    (tmp_path / "test" / "run").rename(tmp_path / "test" / "walk")
    with pytest.raises(ValueError, match=r"train and test have different classes \(run, walk\)"):
        read_dataset(tmp_path)


def test_a_single_list_is_a_data_set_without_splits(tmp_path):
    layouts.csv_list(tmp_path)
    assert read_dataset(tmp_path / "test.csv") == {"": read_index(tmp_path / "test.csv")}
    folder = make_folder(tmp_path / "videos" / "mine")
    assert read_dataset(folder) == {"": read_folder(folder)}


def test_two_lists_of_one_split_are_refused(tmp_path):
    layouts.csv_list(tmp_path)
    write(tmp_path / "my_train_list.txt", "videos/0.mp4 0\n")
    with pytest.raises(ValueError, match="my_train_list.txt and train.csv both list its train"):
        read_dataset(tmp_path)
    (tmp_path / "my_train_list.txt").unlink()
    # Of one name, as those of Kinetics, csv is read.
    write(tmp_path / "train.json", json.dumps({"abc": {"subset": "train"}}))
    assert sorted(read_dataset(tmp_path)) == ["test", "train"]
    with pytest.raises(ValueError, match="train.json: is no list that is known"):
        read_index(tmp_path / "train.json")


@pytest.fixture
def protocols(monkeypatch):
    """What opens gs://, to be changed; whatever was opened before is forgotten, and afterwards."""
    forget = fsspec_backend._get_filesystem.cache_clear
    forget()
    for name in ("gs", "gcs"):
        monkeypatch.delitem(_registry, name, raising=False)
    yield _registry
    forget()


@pytest.fixture
def bucket(protocols, monkeypatch):
    """Stands in for a bucket: gs:// is a file system in memory."""

    class Bucket(MemoryFileSystem):
        protocol, store, pseudo_dirs = ("gs", "gcs"), {}, [""]

    for name in Bucket.protocol:
        monkeypatch.setitem(protocols, name, Bucket)
    folder = epath.Path("gs://bucket/lists")
    folder.mkdir(parents=True)
    return folder


def test_a_list_may_lie_in_a_bucket_and_its_videos_on_the_disk(bucket, tmp_path):
    layouts.csv_list(tmp_path)
    (bucket / "train.csv").write_text((tmp_path / "train.csv").read_text())
    with pytest.raises(ValueError, match="cannot be opened in a bucket: give a local folder"):
        read_index("gs://bucket/lists/train.csv")
    listing = read_index("gs://bucket/lists/train.csv", root=tmp_path)
    assert listing == read_index(tmp_path / "train.csv")
    with pytest.raises(ValueError, match="'gs://bucket/lists/none.csv' does not exist"):
        read_index("gs://bucket/lists/none.csv")


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_what_a_bucket_needs_is_said(protocols):
    for read in (read_index, read_dataset):
        with pytest.raises(ValueError, match="gs://bucket/x.csv: Please install gcsfs.*, or copy"):
            read("gs://bucket/x.csv")
