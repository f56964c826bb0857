"""One of two processes that evaluate together: PORT RECORDS INDEX; prints JSON last."""

import json
import sys

import jax

jax.config.update("jax_cpu_collectives_implementation", "gloo")
port, records, index = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(index))

import test_views  # noqa: E402

from pst_jax import sharding  # noqa: E402
from pst_jax.data.records import Record  # noqa: E402
from pst_jax.evaluation import views  # noqa: E402

mesh = sharding.make_mesh()
found = views.predict_all(
    test_views.make_predict(mesh),
    3.0,
    [Record(*record) for record in json.loads(records)],
    test_views.CLIP,
    mesh,
    batch_size=8,
    num_clips=2,
    num_crops=3,
)
fields = {"scores": found.scores.tolist(), "seen": found.seen.tolist(), "problems": found.problems}
print(json.dumps({"devices": jax.device_count(), **fields}))
