"""A long training takes no more memory, and no more files, than a short one."""

import json

import pytest

CODE = """
import gc, io, json, os, sys, rich.console
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow()
from efficientnetv2_tf.training import callbacks, trainer
from efficientnetv2_tf.training.process_memory import current_memory
from efficientnetv2_tf.training.recipes import load_config

class Watched(callbacks.Checkpointing):
    memory, files = [], []
    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if int(self.model.optimizer.iterations) % 200 == 0:
            gc.collect()
            self.memory.append(current_memory())
        # At the same place of each epoch: towards its end what reads ahead has the data open once more.
        if batch == 19:
            self.files.append(len(os.listdir("/proc/self/fd")))

callbacks.Checkpointing = Watched
# 180 steps an epoch, so that all that an epoch's end leaves in memory is there at step 200.
overrides = (
    "data.train_split=train[:720],data.batch_size=4,data.eval_batch_size=90,data.augment=none,train.epochs=12,"
    "progressive.image_size=[32,32],model.blocks=[r1_k3_s2_e1_i16_o16_c1,r1_k3_s2_e4_i16_o24_se0.25]"
)
trainer.train(load_config("testing", overrides), sys.argv[1], console=rich.console.Console(file=io.StringIO()))
print(json.dumps([Watched.memory, Watched.files]))
"""


@pytest.mark.slow
def test_two_thousand_steps_leave_memory_and_files_as_they_were(run_python, tmp_path):
    code = CODE.replace("sys.argv[1]", repr(str(tmp_path / "run")))
    memory, files = json.loads(run_python(code).splitlines()[-1])
    assert len(memory) == 10 and len(files) == 12
    assert max(memory) < 1.05 * memory[0], memory
    assert max(files[1:]) == files[1], files  # the first epoch's end opens TensorBoard's file
