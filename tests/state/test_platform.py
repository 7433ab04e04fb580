"""The platform repo, and how its rules bind the apps."""

import pytest

from state.apps import DEFINITION, app, places, tree
from uhlp_state.platform import PLATFORM_FILE, PlatformDefinition, validate_platform
from uhlp_state.problems import Code
from uhlp_state.validate import validate

FULL = """\
suspendedApps:
  - {appId: blog, reason: unpaid, since: 2026-01-31T12:00:00Z}
quotas: {maxApps: 10, maxInstancesPerApp: 4, maxPoolsPerApp: 2}
allowedImages: [uhlp/python_runner, acme/runner]
allowedMounts: ["/data:/data:ro"]
"""


def app_with_pools(*pools):
    text = "".join(f"    - {pool}\n" for pool in pools)
    return app({"state/app_definition.yaml": DEFINITION.replace("    - poolName: python\n", text)})


def test_everything_is_optional():
    assert validate_platform(tree()) == (PlatformDefinition(), [])
    assert validate_platform(tree({PLATFORM_FILE: ""})) == (PlatformDefinition(), [])


def test_a_full_definition():
    definition, problems = validate_platform(tree({PLATFORM_FILE: FULL}))
    assert problems == []
    assert definition.suspended_apps[0].since == "2026-01-31T12:00:00Z"
    assert definition.quotas.max_pools_per_app == 2
    assert definition.allowed_images == ("uhlp/python_runner", "acme/runner")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({PLATFORM_FILE: "quota: {}"}, (PLATFORM_FILE, 1, 1, Code.UNKNOWN_KEY)),
        ({PLATFORM_FILE: "quotas: {maxApps: -1}"}, (PLATFORM_FILE, 1, 19, Code.BAD_VALUE)),
        ({PLATFORM_FILE: "suspendedApps: [{reason: x}]"}, (PLATFORM_FILE, 1, 17, Code.MISSING_KEY)),
        ({"state/notes.yaml": "a: *b"}, ("state/notes.yaml", 1, 4, Code.YAML_ALIAS)),
        ({"../x": "y"}, ("../x", 1, 1, Code.PATH_ESCAPE)),
        ({PLATFORM_FILE: 'allowedMounts: ["/data"]'}, (PLATFORM_FILE, 1, 17, Code.BAD_MOUNT)),
        ({PLATFORM_FILE: 'allowedMounts: ["/a:/a:rw", "/a/b:/b"]'}, (PLATFORM_FILE, 1, 1, Code.BAD_MOUNT)),
    ],
)
def test_mistakes(files, expected):
    definition, problems = validate_platform(tree(files))
    assert definition is None
    assert places(problems) == [expected]


LIMITED = validate_platform(tree({PLATFORM_FILE: FULL}))[0]
WRITABLE = PlatformDefinition(allowed_mounts=("/data:/data:rw",))


@pytest.mark.parametrize(
    ("pools", "platform", "expected"),
    [
        (["{poolName: a, maxInstances: 4}"], LIMITED, []),
        (["{poolName: a, maxInstances: 3}", "{poolName: python, maxInstances: 2}"], LIMITED, [(3, 1)]),
        (["{poolName: a}", "{poolName: b}", "{poolName: python}"], LIMITED, [(3, 1)]),
        (["{poolName: python, maxInstances: 65}"], None, [(3, 1)]),
    ],
)
def test_quotas(pools, platform, expected):
    pools = [
        pool.replace("a,", "python,").replace("a}", "python}") if len(pools) == 1 else pool for pool in pools
    ]
    found = validate(app_with_pools(*pools), "demo", platform=platform).problems
    assert [problem.code for problem in found] == [Code.QUOTA_EXCEEDED] * len(expected)
    assert all((problem.line, problem.column) == (4, 3) for problem in found)


@pytest.mark.parametrize(
    ("image", "platform", "codes"),
    [
        ("acme/runner", LIMITED, []),
        ("uhlp/python_runner", PlatformDefinition(allowed_images=()), []),
        ("evil/miner", LIMITED, [Code.IMAGE_NOT_ALLOWED]),
        ("acme/runner:latest", LIMITED, [Code.IMAGE_NOT_ALLOWED]),
        ("evil/miner", None, []),
    ],
)
def test_allowed_images(image, platform, codes):
    source = app_with_pools(f"{{poolName: python, dockerImage: '{image}'}}")
    assert [problem.code for problem in validate(source, "demo", platform=platform).problems] == codes


@pytest.mark.parametrize(
    ("mount", "platform", "codes"),
    [
        ("/data:/data:ro", LIMITED, []),
        ("/data:/data", LIMITED, []),
        ("/data:/data:rw", LIMITED, [Code.MOUNT_NOT_ALLOWED]),
        ("/data:/data:rw", WRITABLE, []),
        ("/data:/data", WRITABLE, []),
        ("/data:/other:ro", LIMITED, [Code.MOUNT_NOT_ALLOWED]),
        ("/data/more:/data:ro", LIMITED, [Code.MOUNT_NOT_ALLOWED]),
        ("/data:/data:ro", None, [Code.MOUNT_NOT_ALLOWED]),
    ],
)
def test_a_mount_must_be_on_the_list(mount, platform, codes):
    source = app_with_pools(f"{{poolName: python, volumeMounts: ['{mount}']}}")
    assert [problem.code for problem in validate(source, "demo", platform=platform).problems] == codes
