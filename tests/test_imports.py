"""The package's surface: what can be imported, and what importing it costs."""

import pytest

import efficientnetv2_tf


def test_importing_the_package_loads_no_framework(run_python):
    heavy = {"tensorflow", "keras", "numpy", "jax", "torch"}
    code = f"import sys, efficientnetv2_tf; print({heavy} & {{*sys.modules}})"
    assert run_python(code).strip() == "set()"


def test_the_pure_modules_load_no_framework(run_python):
    modules = ["networks.block_string", "networks.variants", "networks.cost", "progressive.stages"]
    imports = "\n".join(f"import efficientnetv2_tf.{module}" for module in modules)
    code = f"import sys\n{imports}\nprint({{'tensorflow', 'keras', 'numpy'}} & {{*sys.modules}})"
    assert run_python(code).strip() == "set()"


@pytest.mark.parametrize("name", efficientnetv2_tf.__all__)
def test_every_public_name_resolves(name):
    thing = getattr(efficientnetv2_tf, name)
    if name != "__version__":
        assert thing.__name__ == name
        assert thing.__doc__, f"{name} has no docstring"


def test_dir_lists_the_public_names():
    assert dir(efficientnetv2_tf) == sorted(efficientnetv2_tf.__all__)
    assert {"get_model", "plan_stages", "train"} <= {*dir(efficientnetv2_tf)}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'efficientnetv2_tf' has no attribute 'get_modle'"):
        _ = efficientnetv2_tf.get_modle
    with pytest.raises(ImportError, match="get_modle"):
        from efficientnetv2_tf import get_modle  # noqa: F401
