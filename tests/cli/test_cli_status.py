"""`uhlp status` and `uhlp events`, from documents as the daemons write them to a real Redis."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from uhlp_core import keys
from uhlp_core.events import Event
from uhlp_core.status import Phase, Report

Write = Callable[..., None]


@pytest.fixture
def report(store) -> Write:
    """Write one daemon's report about a deployment."""

    def write(deployment: str, daemon: str, phase: Phase, reason: str, **fields: Any) -> None:
        document = Report(phase, reason, **fields).to_json()
        store.hset(keys.status(deployment), daemon, json.dumps(document))
        store.sadd(keys.DEPLOYMENTS, deployment)

    return write


def live(report: Write, deployment: str, commit: str) -> None:
    for daemon in ("registry", "sandboxes", "routes"):
        report(deployment, daemon, Phase.READY, "Live", attempted=commit, applied=commit)


def test_a_live_app_with_its_instances(uhlp, hello, store, report) -> None:
    commit = hello.git("rev-parse", "HEAD")
    live(report, "hello", commit)
    instance = {
        "instance": "python-1",
        "deployment": "hello",
        "pool": "python",
        "backend": "docker",
        "state": "ready",
        "container": "uhlp-1-python-1",
        "outdated": True,
        "pid": 4711,
        "restarts": 2,
        "lastExit": "out of memory: at 64 MiB",
        "startedAt": 1_700_000_000.0,
    }
    usage = {
        "memoryBytes": 50 << 20,
        "memoryLimitBytes": 64 << 20,
        "cpuPercent": 12.5,
        "cpuSeconds": 7.25,
        "processes": 4,
    }
    store.hset(keys.instances("hello"), "python-1", json.dumps(instance))
    store.hset(keys.usage("hello"), "python-1", json.dumps(usage))
    document = uhlp.json("status", "hello")
    [pool] = document["deployments"][0]["pools"]
    assert pool["instances"][0].pop("ageSeconds") > 1_000_000
    assert document == {
        "deployments": [
            {
                "deployment": "hello",
                "app": "hello",
                "url": "http://hello.localhost:8080/",
                "condition": "Ready",
                "ready": True,
                "reconciling": False,
                "stalled": False,
                "suspended": False,
                "reason": "Live",
                "message": "",
                "attempted": commit,
                "applied": commit,
                "nextRetry": None,
                "pools": [
                    {
                        "pool": "python",
                        "instances": [
                            {
                                "instance": "python-1",
                                "state": "ready",
                                "backend": "docker",
                                "container": "uhlp-1-python-1",
                                "outdated": True,
                                "pid": 4711,
                                "restarts": 2,
                                "lastExit": "out of memory: at 64 MiB",
                                "startedAt": 1_700_000_000.0,
                                **usage,
                            }
                        ],
                    }
                ],
            }
        ]
    }
    text = uhlp("status", "hello").stdout
    assert text.startswith("hello  Ready\n")
    [row] = [line.split("\t") for line in text.splitlines() if "python-1" in line]
    assert row[:4] == ["python", "python-1", "ready (other version's image)", "docker"]
    assert row[5:] == ["2", "12.5 %", "50 MiB of 64 MiB", "uhlp-1-python-1", "out of memory: at 64 MiB"]


def test_a_stalled_app_says_why_and_what_serves(uhlp, hello, report) -> None:
    good = hello.git("rev-parse", "HEAD")
    bad = hello.commit("Break it", page="x")
    live(report, "hello", good)
    message = "handler.py:3\nline two \x1b[31m"
    report("hello", "sandboxes", Phase.STALLED, "HandlerImportFailed", message=message, attempted=bad)
    text = uhlp("status", "hello").stdout
    assert text.startswith("hello  Stalled\n")
    assert f"serving   {good[:7]}\n" in text
    assert "HandlerImportFailed" in text
    assert "            line two \\x1b[31m\n" in text
    document = uhlp.json("status", "hello")["deployments"][0]
    assert (document["ready"], document["stalled"], document["applied"]) == (True, True, good)


def test_a_retry_is_told_as_a_time(uhlp, hello, report) -> None:
    report("hello", "registry", Phase.RECONCILING, "Retrying", next_retry=1_700_000_000.0)
    document = uhlp.json("status", "hello")["deployments"][0]
    assert (document["condition"], document["nextRetry"]) == ("Reconciling", 1_700_000_000.0)
    assert "retry at  2023-11-1" in uhlp("status", "hello").stdout


def test_all_deployments_in_one_table_production_first(uhlp, hello, report) -> None:
    uhlp("app", "create", "aaa")
    commit = hello.git("rev-parse", "HEAD")
    live(report, "hello@dark", commit)
    live(report, "hello", commit)
    rows = [row.split("\t") for row in uhlp("status").stdout.splitlines()]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("aaa", "Reconciling", "-"),
        ("hello", "Ready", commit[:7]),
        ("hello@dark", "Ready", commit[:7]),
    ]


def test_a_suspended_app_is_called_so(uhlp, hello, store, report) -> None:
    live(report, "hello", hello.git("rev-parse", "HEAD"))
    store.set(keys.registry("hello"), json.dumps({"suspended": True}))
    assert uhlp.json("status", "hello")["deployments"][0]["condition"] == "Suspended"


def test_without_redis_git_is_shown_and_the_exit_code_says_so(uhlp, hello) -> None:
    hello.git("checkout", "--quiet", "-b", "preview/dark")
    dark = hello.commit("Try it", page="dark")
    main = uhlp.git("hello", "rev-parse", "main")
    result = uhlp("status", code=3)
    assert "Redis cannot be reached" in result.stderr
    assert "uhlp up" in result.stderr
    assert [line.split("\t")[:3] for line in result.stdout.splitlines()] == [
        ["hello", "main", main[:7]],
        ["hello@dark", "preview/dark", dark[:7]],
    ]
    document = uhlp.json("status", "hello", code=3)
    assert document["error"]["code"] == "REDIS_UNREACHABLE"
    assert [head["commit"] for head in document["heads"]] == [main, dark]


def test_an_empty_platform_says_what_to_do(uhlp, store) -> None:
    assert "uhlp app create" in uhlp("status").stdout
    assert uhlp.json("status") == {"deployments": []}


def test_an_unknown_app_is_refused(uhlp, store) -> None:
    assert uhlp.json("status", "nobody", code=1)["error"]["code"] == "APP_NOT_FOUND"


def test_events_are_told_oldest_first(uhlp, hello, store) -> None:
    told = [
        Event("hello", "hello", "routes", "Live", "serving", commit="a" * 40, at=1_700_000_000.0),
        Event("hello", "hello", "sandboxes", "Crashed", "exit \x1b[2J", type="Warning", at=1_700_000_001.0),
    ]
    for event in told:
        store.xadd(keys.events("hello"), {"event": json.dumps(event.to_json())})
    result = uhlp("events", "hello", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [event.to_json() for event in told]
    lines = uhlp("events", "hello").stdout.splitlines()
    assert "aaaaaaa  routes    hello        Live: serving" in lines[0]
    assert lines[1].endswith("Crashed: exit \\x1b[2J")
    assert uhlp("events", "hello", "-n", "1").stdout.splitlines() == lines[1:]
    assert uhlp("events", "hello", "-n", "0").stdout == ""


def test_events_without_redis(uhlp, hello) -> None:
    uhlp("events", "hello", code=3)
