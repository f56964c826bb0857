import json

from tensorboardX.proto import event_pb2

from pst_jax.training.writer import MetricWriter, UnreadableList, read_metrics


def test_a_resumed_run_drops_what_it_repeats_and_a_cut_line(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        for step in (1, 2, 3):
            writer.write(step, "train", {"loss": 1.0 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "spl')
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    with MetricWriter(tmp_path, 2) as writer:
        writer.write(3, "test", {"top1": 0.5})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "split": "train", "loss": 1.0},
        {"step": 2, "split": "train", "loss": 0.5},
        {"step": 3, "split": "test", "top1": 0.5},
    ]


def test_events_hold_the_same_figures(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        writer.write(5, "train", {"loss": 0.25})
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, found = file.read_bytes(), []
    while data:  # length, checksum of it, message, checksum
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        data = data[16 + length :]
    assert found == [(5, "train/loss", 0.25)]


def test_the_list_of_replaced_videos_is_taken_up_where_the_run_goes_on(tmp_path):
    name = "caf\udce9.mp4"  # no UTF-8 on the disk
    first = UnreadableList(tmp_path, 0)
    assert first.count == 0 and not first.path.exists()
    first.add(1, [f"{name}: is empty"])
    first.add(12, ["b.mp4: is cut off", "c.mp4: does not exist"])
    with first.path.open("a") as file:
        file.write("step 1")  # a kill cut it short
    second = UnreadableList(tmp_path, 11)
    assert second.count == 1
    second.add(12, ["b.mp4: is cut off"])
    assert (second.path.read_bytes(), second.count) == (
        b"step 1: caf\xe9.mp4: is empty\nstep 12: b.mp4: is cut off\n",
        2,
    )
