"""The model's own rules: quantities, defaults, letter case, and what makes an instance of a pool."""

import pytest
from pydantic import ValidationError

from uhlp_state.model import (
    ComponentDefinition,
    ExecutionMode,
    HandlerType,
    OptimizationAction,
    OptimizationRule,
    PoolDefinition,
    ResourceLimits,
    SecurityConfig,
)


@pytest.mark.parametrize(
    ("written", "cores"),
    [("0.5", 0.5), (0.5, 0.5), (2, 2.0), ("500m", 0.5), ("1500m", 1.5), ("1", 1.0), ("0.001", 0.001)],
)
def test_cpu_limits(written, cores):
    assert ResourceLimits(cpu_limit=written).cpu_cores == cores


@pytest.mark.parametrize(
    "written", ["0", "0m", "-1", "", "m", "1e3", "nan", "inf", "1 core", "99999", "0.0001"]
)
def test_cpu_limits_that_make_no_sense(written):
    with pytest.raises(ValidationError, match="cores"):
        ResourceLimits(cpu_limit=written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512M", 512 * 2**20),
        ("512m", 512 * 2**20),
        ("512MB", 512 * 2**20),
        ("512Mi", 512 * 2**20),
        ("512MiB", 512 * 2**20),
        ("1G", 2**30),
        ("1.5Gi", 1536 * 2**20),
        ("16384K", 2**24),
        ("16777216", 2**24),
        (16777216, 2**24),
        ("16777216B", 2**24),
    ],
)
def test_memory_limits(written, size):
    assert ResourceLimits(memory_limit=written).memory_bytes == size


@pytest.mark.parametrize("written", ["15M", "0", "-1G", "1T", "2000G", "M", "", "1 000M", "9" * 30, 1])
def test_memory_limits_that_make_no_sense(written):
    with pytest.raises(ValidationError, match="must be a size"):
        ResourceLimits(memory_limit=written)


def test_defaults_of_limits():
    limits = ResourceLimits()
    assert (limits.cpu_cores, limits.memory_bytes) == (1.0, 256 * 2**20)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, 1)),
        ({"minInstances": 0}, (0, 1)),
        ({"minInstances": 3}, (3, 3)),
        ({"maxInstances": 4}, (1, 4)),
    ],
)
def test_max_instances_follows_min_instances(given, expected):
    pool = PoolDefinition.model_validate({"poolName": "p", **given})
    assert (pool.min_instances, pool.max_instances) == expected


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"minInstances": 2, "maxInstances": 9}, True),
        ({"standbyInstances": 3, "scaleDownAfterSeconds": 5}, True),
        ({"maxQueue": 1, "queueTimeoutSeconds": 1}, True),
        ({"poolName": "other"}, True),
        ({"executionMode": "FORK"}, True),
        ({"timeoutSeconds": 30.0}, True),
        ({"resourceLimits": {"cpuLimit": "1000m", "memoryLimit": "0.25G"}}, True),
        ({"executionMode": "server"}, False),
        ({"dockerImage": "other"}, False),
        ({"concurrency": 9}, False),
        ({"timeoutSeconds": 31}, False),
        ({"volumeMounts": ["/a:/b"]}, False),
        ({"isolation": "docker"}, False),
        ({"resourceLimits": {"cpuLimit": 2}}, False),
        ({"resourceLimits": {"memoryLimit": "1G"}}, False),
        ({"resourceLimits": {"maxProcesses": 33}}, False),
        ({"resourceLimits": {"maxOutputBytes": 2048}}, False),
        ({"resourceLimits": {"maxOpenFiles": 257}}, False),
    ],
)
def test_the_spec_hash_changes_with_what_shapes_an_instance_and_with_nothing_else(change, same):
    before = PoolDefinition.model_validate({"poolName": "p"})
    after = PoolDefinition.model_validate({"poolName": "p", **change})
    assert (before.spec_hash() == after.spec_hash()) is same


def test_the_spec_hash_does_not_change_between_versions():
    # A new value here replaces every running instance at the next start.
    assert PoolDefinition(pool_name="p").spec_hash() == "073a64e5bbf2"


ROUTE = {"pathPattern": "/", "methods": ["get"]}


@pytest.mark.parametrize("written", ["jit", "JIT", "Jit"])
def test_names_are_taken_in_any_letter_case(written):
    component = ComponentDefinition.model_validate(
        {"componentId": "a", "handlerType": written, "targetPoolName": "p", "routeMatcher": ROUTE}
    )
    assert component.handler_type is HandlerType.JIT
    assert component.route_matcher.methods == ("GET",)
    assert (
        PoolDefinition.model_validate({"poolName": "p", "executionMode": "Server"}).execution_mode
        is ExecutionMode.SERVER
    )


@pytest.mark.parametrize("written", ["ACTION_TRIGGER_JIT", "TRIGGER_JIT", "trigger_jit"])
def test_actions_are_taken_with_and_without_the_prefix_of_the_specification(written):
    rule = OptimizationRule.model_validate({"condition": {"expression": "x > 1"}, "action": written})
    assert rule.action is OptimizationAction.TRIGGER_JIT


def test_the_model_never_changes():
    with pytest.raises(ValidationError, match="frozen"):
        PoolDefinition(pool_name="p").concurrency = 9


@pytest.mark.parametrize(
    ("key_hash", "valid"),
    [
        ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMjM0$" + "A" * 43, True),
        ("$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM0$" + "A" * 43, True),
        ("sk-live-1234", False),
        ("$2b$12$" + "A" * 53, False),
        ("$argon2id$v=19$m=65536,t=3,p=4$short$A", False),
        ("$argon2id$v=19$m=262145,t=3,p=4$c29tZXNhbHQxMjM0$" + "A" * 43, False),
        ("$argon2id$v=19$m=65536,t=17,p=4$c29tZXNhbHQxMjM0$" + "A" * 43, False),
        ("$argon2id$v=19$m=65536,t=0,p=4$c29tZXNhbHQxMjM0$" + "A" * 43, False),
        ("$argon2id$v=19$m=65536,t=3,p=17$c29tZXNhbHQxMjM0$" + "A" * 43, False),
        ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMjM0$" + "A" * 43 + "\n", False),
    ],
)
def test_only_hashes_that_the_gateway_can_afford_are_keys(key_hash, valid):
    config = {"apiKeys": [{"keyHash": key_hash}]}
    if valid:
        assert key_hash not in repr(SecurityConfig.model_validate(config))
    else:
        with pytest.raises(ValidationError, match="keyHash"):
            SecurityConfig.model_validate(config)


@pytest.mark.parametrize("moment", ["2027-01-31", "2027-01-31T00:00:00", "soon", 1800000000, True])
def test_a_key_ends_at_a_moment_that_everybody_understands_alike(moment):
    key = {"keyHash": "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMjM0$" + "A" * 43, "expiresAt": moment}
    with pytest.raises(ValidationError, match="moment with its time zone"):
        SecurityConfig.model_validate({"apiKeys": [key]})
