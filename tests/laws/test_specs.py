"""Specifications survive repr and JSON."""

import dataclasses
import json

import pytest
import torch

import ftwt
from ftwt.io import specs
from ftwt.io.registry import registered
from tests.laws.components import SPECS
from tests.small import refused

every_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: repr(spec)[:60])


@every_spec
def test_json_round_trip(spec):
    again = specs.from_json(json.loads(json.dumps(specs.to_json(spec))))
    assert again == spec
    assert type(again) is type(spec)


@every_spec
def test_repr_round_trip(spec):
    scope = {kind.__name__: kind for kind in registered().values()}
    assert eval(repr(spec), scope) == spec


@every_spec
def test_specs_are_values(spec):
    assert hash(spec) == hash(specs.from_json(specs.to_json(spec)))
    with pytest.raises(AttributeError):
        spec.anything = 1


@every_spec
def test_files_of_before_a_field_was_there_say_the_same(spec):
    old = specs.recorded(spec)
    for field in dataclasses.fields(spec):
        if field.default == getattr(spec, field.name):
            del old[field.name]
    assert specs.renewed(old) == specs.recorded(spec)
    assert specs.renewed({"type": "Popen"}) == {"type": "Popen"}


def test_unknown_types_and_fields_are_refused():
    with pytest.raises(ftwt.FtwtError, match="unknown type 'Popen'; known are Active, "):
        specs.from_json({"type": "Popen", "args": ["true"]})
    refused("TopK does not take these fields", specs.from_json, {"type": "TopK", "share": 0.5})
    refused("Tensor is not a specification", specs.to_json, torch.zeros(1))
