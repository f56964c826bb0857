"""Tiny data sets on disk, laid out as their publishers have them, with real videos.

Each function fills a folder (made where it is none) and returns what a reader must find there, by
split: `{split: [(video_id, label), ...]}`, in the order of the list. Videos are blocks of noise,
40 x 32 px, 8 to 24 frames at 16 fps, and no two are alike.
"""

import json
import pathlib

import cv2
from video_files import frames_of_noise, write_video

FPS = 16
NUM_TRAIN, NUM_TEST = 3, 2  # videos per class

# As published, not in alphabetical order; the numbers of the classes are their places.
SOMETHING = (
    "Putting [something] onto [something]",
    "Pushing [something] from left to right",
    "Pushing [something] from right to left",
)
KINETICS = ("abseiling", "playing violin", "riding a bike")  # numbered by alphabet
DIVES = (("Back", "15som", "05Twis", "FREE"), ("Forward", "25som", "NoTwis", "PIKE"))


def frames_of(seed):
    """uint8 [T, 32, 40, 3], T in [8, 24]: the video of that number, before it is encoded."""
    return frames_of_noise(8 + 5 * seed % 17, 32, 40, seed)


def _places(num_classes):
    """(split, label, number of the video), number counting from 0 over all; classes take turns."""
    split_of = ("train",) * NUM_TRAIN + ("validation",) * NUM_TEST
    places = [(split, label) for split in split_of for label in range(num_classes)]
    return [(split, label, number) for number, (split, label) in enumerate(places)]


def _by_split(places):
    """{split: [...]} of (split, video_id, label)."""
    found = {}
    for split, video_id, label in places:
        found.setdefault(split, []).append((video_id, label))
    return found


def _write(path, seed, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames_of(seed), rate=FPS, **options)


def write_images(folder, frames, first=1, name="{:05d}.jpg"):
    """Writes uint8 [T, H, W, 3] as numbered images of good quality."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=first):
        path = str(folder / name.format(number))
        assert cv2.imwrite(path, frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


def ssv1(folder):
    """Something-Something V1: folders of jpgs from 1 on; lines `id;label text`, a test's `id`."""
    folder = pathlib.Path(folder)
    prefix, names = "something-something-v1", [text.translate(_BARE) for text in SOMETHING]
    places = []
    for split, label, number in _places(len(names)):
        video_id = str(100 + number)
        write_images(folder / "20bn-something-something-v1" / video_id, frames_of(number))
        places.append((split, video_id, label))
    found = _by_split(places)
    for split, pairs in found.items():
        lines = [f"{video_id};{names[label]}\n" for video_id, label in pairs]
        (folder / f"{prefix}-{split}.csv").write_text("".join(lines))
    (folder / f"{prefix}-test.csv").write_text("900\n901\n")
    (folder / f"{prefix}-labels.csv").write_text("\n".join(names) + "\n")
    return found


def ssv2(folder, older_names=False):
    """Something-Something V2: vp9 webm; json lists with bracketed templates, numbers as strings."""
    folder = pathlib.Path(folder)
    places = []
    for split, label, number in _places(len(SOMETHING)):
        video_id = str(200 + number)
        path = folder / "20bn-something-something-v2" / f"{video_id}.webm"
        _write(path, number, codec="libvpx-vp9")
        places.append((split, video_id, label))
    found = _by_split(places)
    where = folder if older_names else folder / "labels"
    prefix = "something-something-v2-" if older_names else ""
    where.mkdir(exist_ok=True)
    for split, pairs in found.items():
        entries = [_ssv2_entry(video_id, SOMETHING[label]) for video_id, label in pairs]
        (where / f"{prefix}{split}.json").write_text(json.dumps(entries))
    (where / f"{prefix}test.json").write_text(json.dumps([{"id": "900"}, {"id": "901"}]))
    numbers = {text.translate(_BARE): str(label) for label, text in enumerate(SOMETHING)}
    (where / f"{prefix}labels.json").write_text(json.dumps(numbers))
    return found


_BARE = str.maketrans("", "", "[]")


def _ssv2_entry(video_id, template):
    placeholders = ["a cup", "a table"][: template.count("[")]
    label = template
    for thing in placeholders:
        label = label.replace("[something]", thing, 1)
    label = label[0].lower() + label[1:]
    return {"id": video_id, "label": label, "template": template, "placeholders": placeholders}


def kinetics(folder, validation_name="val"):
    """Kinetics-400: csv lists, and mp4 files named and laid out in the three ways people have.

    The last train video of the list is missing, and `train/unlisted___000001_000011.mp4` is extra.
    """
    folder = pathlib.Path(folder)
    places, lines = [], {}
    for split, label, number in _places(len(KINETICS)):
        youtube_id, name = f"-_yt{number:07d}", KINETICS[label]
        video_id = f"{youtube_id}_000012_000022"
        on_disk = {"train": "train", "validation": validation_name}[split]
        path = (
            folder / on_disk / name / f"{video_id}.mp4",
            folder / on_disk / f"{video_id}.mp4",
            folder / on_disk / f"{youtube_id}.mp4",
        )[label]
        if number != NUM_TRAIN * len(KINETICS) - 1:
            _write(path, number)
        places.append((split, video_id, label))
        quoted = f'"{name}"' if " " in name else name  # as some copies have it
        lines.setdefault(on_disk, []).append(f"{quoted},{youtube_id},12,22,{on_disk}\n")
    _write(folder / "train" / "unlisted___000001_000011.mp4", 99)
    for on_disk, its_lines in lines.items():
        header = "label,youtube_id,time_start,time_end,split\n"
        (folder / f"{on_disk}.csv").write_text(header + "".join(its_lines))
    return _by_split(places)


def diving48(folder):
    """Diving48 V2: mp4 files in `rgb`, json lists, a vocabulary of four words per class."""
    folder = pathlib.Path(folder)
    places = []
    for split, label, number in _places(len(DIVES)):
        video_id = f"0fUzH_tZMQ8_{number:05d}"
        _write(folder / "rgb" / f"{video_id}.mp4", number)
        places.append(("test" if split == "validation" else split, video_id, label))
    found = _by_split(places)
    lengths = {video_id: len(frames_of(int(video_id[-5:]))) for _, video_id, _ in places}
    for split, pairs in found.items():
        entries = [
            {"vid_name": name, "label": label, "start_frame": 0, "end_frame": lengths[name]}
            for name, label in pairs
        ]
        (folder / f"Diving48_V2_{split}.json").write_text(json.dumps(entries))
    (folder / "Diving48_vocab.json").write_text(json.dumps(DIVES))
    return found


def class_folders(folder):
    """`train` and `test`, each with a folder per class: of mp4 files, and one of frame folders."""
    folder = pathlib.Path(folder)
    names = ("jump", "run", "stand still")
    places = []
    for split, label, number in _places(len(names)):
        split = "test" if split == "validation" else split
        stem = f"clip {number:02d}"
        where = folder / split / names[label]
        if names[label] == "run":
            write_images(where / stem, frames_of(number), first=0, name="img_{:05d}.jpg")
            places.append((split, f"{names[label]}/{stem}", label))
        else:
            _write(where / f"{stem}.mp4", number)
            places.append((split, f"{names[label]}/{stem}.mp4", label))
    found = _by_split(places)
    return {split: sorted(pairs, key=lambda pair: pair[::-1]) for split, pairs in found.items()}


def csv_list(folder):
    """`train.csv` and `test.csv` of `path,label,start,end`: parts of files, and one whole file."""
    folder = pathlib.Path(folder)
    found = {}
    for split, seeds in (("train", (0, 1, 2)), ("test", (3, 4))):
        lines, pairs = ["path,label,start,end\n"], []
        for seed in seeds:
            path = f"videos/{seed}.mp4"
            _write(folder / path, seed)
            end_s = len(frames_of(seed)) / FPS
            lines += [f"{path},0,0,{end_s / 2:.3f}\n", f"{path},1,{end_s / 2:.3f},\n"]
            pairs += [(path, 0), (f"{path}#2", 1)]
        lines.append(f"{path},1,,\n")  # the whole of the last
        pairs.append((f"{path}#3", 1))
        (folder / f"{split}.csv").write_text("".join(lines))
        found[split] = pairs
    return found


ALL = (ssv1, ssv2, kinetics, diving48, class_folders, csv_list)
