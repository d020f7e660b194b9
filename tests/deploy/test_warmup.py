"""Warm-up requests, parsed by messages that are made here from TF Serving's published field numbers."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from efficientnetv2_tf.deploy.saved_model import SIGNATURES
from efficientnetv2_tf.deploy.serving.loaded_model import LoadedModel
from efficientnetv2_tf.deploy.warmup import prediction_log, write_warmup_requests


@pytest.fixture(scope="module")
def prediction_log_class():
    """PredictionLog with what a request needs; the real one is in tensorflow-serving-api."""
    text, message = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    file = descriptor_pb2.FileDescriptorProto(name="request.proto", package="test", syntax="proto3")
    file.dependency.append("tensorflow/core/framework/tensor.proto")

    def add(container, message_name, **fields):
        added = container.add(name=message_name)
        for key, (number, kind, type_name) in fields.items():
            added.field.add(name=key, number=number, type=kind, type_name=type_name, label=1)
        return added

    add(file.message_type, "ModelSpec", name=(1, text, None), signature_name=(3, text, None))
    request = add(file.message_type, "PredictRequest", model_spec=(1, message, ".test.ModelSpec"))
    entry = add(request.nested_type, "InputsEntry", key=(1, text, None), value=(2, message, ".tensorflow.TensorProto"))
    entry.options.map_entry = True
    request.field.add(name="inputs", number=2, type=message, type_name=".test.PredictRequest.InputsEntry", label=3)
    add(file.message_type, "PredictLog", request=(1, message, ".test.PredictRequest"))
    add(file.message_type, "PredictionLog", predict_log=(6, message, ".test.PredictLog"))
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.PredictionLog"))


def test_a_request_parses(prediction_log_class):
    inputs = {"pictures": np.arange(600, dtype=np.float32).reshape(2, 300), "name": np.array([b"\xff", b""], object)}
    request = prediction_log_class.FromString(prediction_log("a model", "explain", inputs)).predict_log.request
    assert (request.model_spec.name, request.model_spec.signature_name) == ("a model", "explain")
    assert {*request.inputs} == {"pictures", "name"}
    for name, value in inputs.items():
        np.testing.assert_array_equal(tf.make_ndarray(request.inputs[name]), value)


def test_it_is_what_tensorflow_serving_api_writes():
    api = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    encoded = prediction_log("a model", "images", {"images": np.zeros([1, 8, 8, 3], np.uint8)})
    assert api.PredictionLog.FromString(encoded).SerializeToString() == encoded


def test_every_signature_answers_its_request(saved_model, prediction_log_class, tmp_path):
    write_warmup_requests(tmp_path, "digits", 32)
    records = tf.data.TFRecordDataset(str(tmp_path / "assets.extra" / "tf_serving_warmup_requests"))
    requests = [prediction_log_class.FromString(record).predict_log.request for record in records.as_numpy_iterator()]
    assert [request.model_spec.signature_name for request in requests] == [*SIGNATURES]
    model = LoadedModel(saved_model)
    for request in requests:
        assert request.model_spec.name == "digits"
        tensors = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        outputs = model.run(request.model_spec.signature_name, tensors)
        assert all(len(values) == 1 for values in outputs.values())
