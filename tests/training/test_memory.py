"""A long training takes no more memory, and no more files, than a short one."""

import json

import pytest

CODE = """
import gc, io, json, os, sys, rich.console
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow()
from efficientnetv2_tf.training import callbacks, trainer
from efficientnetv2_tf.training.recipes import load_config

def used():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))

class Watched(callbacks.Checkpointing):
    seen = []
    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if int(self.model.optimizer.iterations) % 200 == 0:
            self.seen.append(used())

callbacks.Checkpointing = Watched
# 180 steps an epoch, so that all that an epoch's end leaves in memory is there at step 200.
overrides = (
    "data.train_split=train[:720],data.batch_size=4,data.eval_batch_size=90,data.augment=none,train.epochs=12,"
    "progressive.image_size=[32,32],model.blocks=[r1_k3_s2_e1_i16_o16_c1,r1_k3_s2_e4_i16_o24_se0.25]"
)
trainer.train(load_config("testing", overrides), sys.argv[1], console=rich.console.Console(file=io.StringIO()))
print(json.dumps([*Watched.seen, used()]))
"""


@pytest.mark.slow
def test_two_thousand_steps_leave_memory_and_files_as_they_were(run_python, tmp_path):
    code = CODE.replace("sys.argv[1]", repr(str(tmp_path / "run")))
    seen = json.loads(run_python(code).splitlines()[-1])
    assert len(seen) == 11
    (first, files), *others = seen[:-1]
    assert all(memory < 1.08 * first for memory, _ in others), seen
    assert all(number <= files + 1 for _, number in others), seen
