"""Pools: unique names, and nothing beyond what the platform gives one app."""

from __future__ import annotations

from uhlp_state.checks.parts import Files, Part
from uhlp_state.model import AppDefinition
from uhlp_state.model.mounts import Mount
from uhlp_state.model.pools import OWN_IMAGES
from uhlp_state.platform import PlatformDefinition
from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.yaml_source import YamlPath

_POOLS: YamlPath = ("sandboxPools", "pools")
_ASK = "ask for less, or have the platform's state/platform.yaml changed"


def check_pools(files: Files, definition: Part[AppDefinition], platform: PlatformDefinition) -> None:
    """Check the pools of an app against each other and against the platform."""
    _check_names(files, definition)
    _check_quotas(files, definition, platform)
    for index, pool in enumerate(definition.model.sandbox_pools.pools):
        images = platform.allowed_images
        if images is not None and pool.docker_image not in (*images, *OWN_IMAGES):
            remedy = did_you_mean(pool.docker_image, (*images, *OWN_IMAGES), _ASK)
            message = f"the image {quoted(pool.docker_image)} is not allowed on this platform"
            place: YamlPath = (*_POOLS, index, "dockerImage")
            files.problems.append(definition.problem(place, Code.IMAGE_NOT_ALLOWED, message, remedy))
        for position, mount in enumerate(pool.mounts):
            if not any(Mount.parse(allowed).allows(mount) for allowed in platform.allowed_mounts):
                message = f"the mount {quoted(pool.volume_mounts[position])} is not allowed on this platform"
                remedy = "remove it, or have it added to allowedMounts in the platform's state/platform.yaml"
                place = (*_POOLS, index, "volumeMounts", position)
                files.problems.append(definition.problem(place, Code.MOUNT_NOT_ALLOWED, message, remedy))


def _check_names(files: Files, definition: Part[AppDefinition]) -> None:
    first: dict[str, int] = {}
    for index, pool in enumerate(definition.model.sandbox_pools.pools):
        place: YamlPath = (*_POOLS, index, "poolName")
        if pool.pool_name in first:
            message = f"the poolName {quoted(pool.pool_name)} is already on line {first[pool.pool_name]}"
            remedy = "give each pool its own name"
            files.problems.append(definition.problem(place, Code.DUPLICATE_POOL, message, remedy))
        else:
            first[pool.pool_name] = definition.line(place)


def _check_quotas(files: Files, definition: Part[AppDefinition], platform: PlatformDefinition) -> None:
    pools = definition.model.sandbox_pools.pools
    instances = sum(pool.max_instances for pool in pools)
    quotas = platform.quotas
    if len(pools) > quotas.max_pools_per_app:
        message = f"{len(pools)} pools are more than the {quotas.max_pools_per_app} that one app may have"
        files.problems.append(definition.problem(_POOLS, Code.QUOTA_EXCEEDED, message, _ASK, key=True))
    if instances > quotas.max_instances_per_app:
        message = (
            f"the maxInstances of all pools add up to {instances}, "
            f"more than the {quotas.max_instances_per_app} that one app may have"
        )
        files.problems.append(definition.problem(_POOLS, Code.QUOTA_EXCEEDED, message, _ASK, key=True))
