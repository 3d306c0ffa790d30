"""What a config's docstring says of its options."""

import dataclasses
import inspect

import pytest

from sae_lab.saes import ARCHITECTURES, JumpReLU, TopK


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_docstring_of_a_config_says_what_each_option_means(name):
    config = ARCHITECTURES[name]
    lines = inspect.getdoc(config).splitlines()
    assert lines[0].startswith("Options of ")
    for option in dataclasses.fields(config):
        (place,) = [i for i, line in enumerate(lines) if line.startswith(f"{option.name} : ")]
        assert lines[place + 1].removeprefix("    ").strip(), f"nothing is said of {option.name}"


def test_a_config_that_only_changes_a_default_keeps_what_is_said_of_the_option():
    assert "dead : DeadPolicy, default 'aux'" in TopK.__doc__
    assert '"resample" (now and then they begin anew' in TopK.__doc__


def test_inherited_options_are_told_too():
    assert "target_l0 : float | None, default 32.0" in JumpReLU.__doc__
    assert TopK(d_sae=8, k=2).__doc__ == TopK.__doc__
