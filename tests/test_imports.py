"""The package's surface: what can be imported, and what importing it costs."""

import importlib

import pytest

import efficientnetv2_tf
from efficientnetv2_tf import deploy


def test_importing_the_package_loads_no_framework(run_python):
    heavy = {"tensorflow", "keras", "numpy", "jax", "torch"}
    code = f"import sys, efficientnetv2_tf; print({heavy} & {{*sys.modules}})"
    assert run_python(code).strip() == "set()"


def test_the_pure_modules_load_no_framework(run_python):
    networks = ["block_string", "variants", "cost", "normalization", "reductions"]
    others = ["progressive.stages", "training.stopping", "search.space", "search.ablation"]
    others += ["benchmark.benchmark", "benchmark.inference", "benchmark.stage_switch"]
    modules = [*(f"networks.{name}" for name in networks), *others]
    imports = "\n".join(f"import efficientnetv2_tf.{module}" for module in modules)
    code = f"import sys\n{imports}\nprint({{'tensorflow', 'keras', 'numpy'}} & {{*sys.modules}})"
    assert run_python(code).strip() == "set()"


def test_keras_knows_each_class_that_files_may_name():
    import keras

    importlib.import_module("efficientnetv2_tf.networks.model")
    registered = {name for name in keras.saving.get_custom_objects() if name.startswith("efficientnetv2_tf>")}
    assert registered == {f"efficientnetv2_tf>{name}" for name in efficientnetv2_tf._SAVED_IN}


@pytest.mark.slow
def test_a_model_of_our_layers_opens_where_nothing_of_ours_is_loaded(run_python, tmp_path):
    import keras

    blocks = [efficientnetv2_tf.MBConv("r1_k3_s1_e2_i8_o8"), efficientnetv2_tf.SqueezeExcite(2)]
    keras.Sequential([keras.Input([None, None, 8]), *blocks]).save(tmp_path / "blocks.keras")
    code = f"""
import sys, efficientnetv2_tf, keras
print([name for name in sys.modules if name.startswith("efficientnetv2_tf.")])
print([type(layer).__name__ for layer in keras.models.load_model({str(tmp_path / "blocks.keras")!r}).layers])
"""
    assert run_python(code).splitlines() == ["[]", "['MBConv', 'SqueezeExcite']"]


@pytest.mark.parametrize("name", efficientnetv2_tf.__all__)
def test_every_public_name_resolves(name):
    thing = getattr(efficientnetv2_tf, name)
    if name != "__version__":
        assert thing.__name__ == name
        assert thing.__doc__, f"{name} has no docstring"


def test_importing_deploy_and_its_client_loads_no_framework(run_python):
    code = "import sys; from efficientnetv2_tf import deploy; deploy.client, deploy.export, deploy.predict"
    assert run_python(f"{code}; print({{'tensorflow', 'keras'}} & {{*sys.modules}})").strip() == "set()"


@pytest.mark.parametrize("name", deploy.__all__)
def test_every_public_name_of_deploy_resolves(name):
    if name == "serve":
        pytest.importorskip("uvicorn")
    thing = getattr(deploy, name)
    assert thing.__name__.rpartition(".")[2] == name
    assert thing.__doc__, f"{name} has no docstring"
    assert name in dir(deploy)


def test_an_unknown_name_of_deploy_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'efficientnetv2_tf\.deploy' has no attribute 'exprot'"):
        _ = deploy.exprot


def test_dir_lists_the_public_names():
    assert dir(efficientnetv2_tf) == sorted(efficientnetv2_tf.__all__)
    assert {"get_model", "plan_stages", "train"} <= {*dir(efficientnetv2_tf)}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'efficientnetv2_tf' has no attribute 'get_modle'"):
        _ = efficientnetv2_tf.get_modle
    with pytest.raises(ImportError, match="get_modle"):
        from efficientnetv2_tf import get_modle  # noqa: F401
